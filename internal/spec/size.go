package spec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as a whole number and a binary unit, e.g. 8GiB.
type Size int64

// The units of a Size.
const (
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// The smallest disk holds a node and its images; the largest is what ext4 with
// 4 KiB blocks and 32-bit block numbers can address.
const (
	minDisk = 2 * GiB
	maxDisk = 16 * TiB
)

var sizeForm = regexp.MustCompile(`^([0-9]+)(MiB|GiB|TiB)$`)

// looseSize is what people write instead: other cases, decimal units, blanks.
var looseSize = regexp.MustCompile(`(?i)^\s*([0-9]+)\s*([mgt])(i?b?)\s*$`)

// ParseSize reads a size such as 8GiB.
func ParseSize(text string) (Size, error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, badSize(text)
	}
	unit := map[string]Size{"MiB": MiB, "GiB": GiB, "TiB": TiB}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > int64((1<<63-1)/unit) {
		return 0, fmt.Errorf("%s is more than any disk holds; the largest is %s", shorten(text), maxDisk)
	}
	return Size(n) * unit, nil
}

func badSize(text string) error {
	m := looseSize.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%s is not a size; write a whole number and MiB, GiB or TiB, e.g. 8GiB", shorten(text))
	}
	near := m[1] + strings.ToUpper(m[2]) + "iB"
	if strings.EqualFold(m[3], "b") {
		return fmt.Errorf("%s has a decimal unit, and disks are measured in MiB, GiB or TiB; did you mean %q?", shorten(text), near)
	}
	return fmt.Errorf("%s is not a size; did you mean %q?", shorten(text), near)
}

// String returns the size with the largest unit that divides it, or in bytes.
func (s Size) String() string {
	switch {
	case s == 0:
		return "0MiB"
	case s%TiB == 0:
		return fmt.Sprintf("%dTiB", s/TiB)
	case s%GiB == 0:
		return fmt.Sprintf("%dGiB", s/GiB)
	case s%MiB == 0:
		return fmt.Sprintf("%dMiB", s/MiB)
	default:
		return fmt.Sprintf("%dB", int64(s))
	}
}

// MarshalText writes the size as String does. A size that is negative or no
// whole number of MiB has no text form and is an error.
func (s Size) MarshalText() ([]byte, error) {
	if s < 0 || s%MiB != 0 {
		return nil, fmt.Errorf("write size: %d bytes are no whole number of MiB", int64(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = n
	return nil
}
