package ui

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Bytes returns n in binary units with about three digits: "512 MiB",
// "1.2 GiB", "17 B".
func Bytes(n int64) string {
	size, name := unitOf(n)
	if size == 1 {
		return strconv.FormatInt(n, 10) + " B"
	}
	s := scaled(n, size)
	if len(s) > 2 && s[len(s)-2:] == ".0" {
		s = s[:len(s)-2]
	}
	return s + " " + name
}

// unitOf returns the binary unit that suits n. A number that would round up to
// 1024 of a unit takes the next one.
func unitOf(n int64) (size float64, name string) {
	size, name = 1, "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if math.Round(math.Abs(float64(n))/size) < 1024 {
			break
		}
		size, name = size*1024, next
	}
	return size, name
}

// scaled returns n in a unit: one decimal below 100, none above, so that a
// counting number keeps its width for long.
func scaled(n int64, unit float64) string {
	v := float64(n) / unit
	if unit == 1 || math.Abs(v) >= 99.95 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// Duration returns d as people read it: "0.4s", "42.0s", "1m02s", "1h02m".
func Duration(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if tenths := d.Round(100 * time.Millisecond); tenths < time.Minute {
		return fmt.Sprintf("%.1fs", tenths.Seconds())
	}
	secs := int64(d.Round(time.Second) / time.Second)
	if secs < 3600 {
		return fmt.Sprintf("%dm%02ds", secs/60, secs%60)
	}
	mins := (secs + 30) / 60
	return fmt.Sprintf("%dh%02dm", mins/60, mins%60)
}
