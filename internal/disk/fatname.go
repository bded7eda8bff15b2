package disk

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"imagebuilder.dev/internal/fault"
)

// Limits of VFAT names.
const (
	maxLongName  = 255 // UTF-16 units
	longNameStep = 13  // units in one directory entry
	shortName    = 11  // 8 and 3 characters, padded with spaces
)

// checkFATName says why a name cannot be stored, or nil.
func checkFATName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fault.New(fault.Input, "name %q is not a file name", name)
	case !utf8.ValidString(name):
		return fault.New(fault.Input, "name %q is not valid UTF-8", name)
	case len(utf16.Encode([]rune(name))) > maxLongName:
		return fault.New(fault.Input, "name %.20q... is longer than %d characters", name, maxLongName)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fault.New(fault.Input, "name %q ends with a dot or a space, which FAT drops", name)
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r) {
			return fault.New(fault.Input, "name %q holds %q, which FAT cannot store", name, r)
		}
	}
	return nil
}

// foldName returns what two names share that FAT takes for the same.
func foldName(name string) string { return strings.ToUpper(name) }

// shortAlias returns the 8.3 name for a long one, unlike all that are taken,
// and whether it says all that the long name says.
func shortAlias(name string, taken func([shortName]byte) bool) (alias [shortName]byte, exact bool) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	b, e := shortChars(base), shortChars(ext)
	plain := b
	if e != "" {
		plain += "." + e
	}
	if plain == name && len(b) <= 8 && len(e) <= 3 && b != "" {
		return packShort(b, e), true // names differ in more than case, so nobody else has it
	}
	for n := 1; ; n++ {
		tail := fmt.Sprintf("~%d", n)
		alias = packShort(b[:min(len(b), 8-len(tail))]+tail, e)
		if !taken(alias) {
			return alias, false
		}
	}
}

// shortChars maps a name to the characters of 8.3 names: upper case, no dots
// and spaces, and _ for what does not exist there.
func shortChars(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '.':
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case r > 0x7e || strings.ContainsRune("+,;=[]", r):
			return '_'
		}
		return r
	}, s)
}

func packShort(base, ext string) (a [shortName]byte) {
	copy(a[:], padded(base, 8)+padded(ext[:min(len(ext), 3)], 3))
	return a
}

// shortText returns an alias as it is looked up: with a dot, without padding.
func shortText(a [shortName]byte) string {
	text := strings.TrimRight(string(a[:8]), " ")
	if ext := strings.TrimRight(string(a[8:]), " "); ext != "" {
		text += "." + ext
	}
	return text
}

// longEntries returns the directory entries that carry a long name, in the
// order in which they stand before the short one: the end of the name first.
func longEntries(name string, alias [shortName]byte) []byte {
	units := utf16.Encode([]rune(name))
	if len(units)%longNameStep != 0 {
		units = append(units, 0)
	}
	for len(units)%longNameStep != 0 {
		units = append(units, 0xffff)
	}
	var out []byte
	for i := len(units)/longNameStep - 1; i >= 0; i-- {
		e := make([]byte, dirEntry)
		e[0] = byte(i + 1)
		if len(out) == 0 {
			e[0] |= 0x40 // the name's last part
		}
		e[11], e[13] = 0x0f, aliasSum(alias)
		for j, at := range longUnitOffsets() {
			u := units[i*longNameStep+j]
			e[at], e[at+1] = byte(u), byte(u>>8)
		}
		out = append(out, e...)
	}
	return out
}

// longUnitOffsets returns where a long-name entry keeps its 13 units.
func longUnitOffsets() [longNameStep]int {
	return [longNameStep]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}
}

// aliasSum ties long-name entries to their short one.
func aliasSum(alias [shortName]byte) (sum byte) {
	for _, c := range alias {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// fatNode is a file or directory of a volume. A directory has no file.
type fatNode struct {
	name     string
	file     *File
	children []*fatNode

	alias   [shortName]byte
	long    []byte // long-name entries; nil when the alias is exact
	cluster int64  // first; 0 when it has none
	count   int64
}

// fatTree arranges files as a tree, sorted by name, and gives out the short names.
func fatTree(files []File) (*fatNode, error) {
	root := &fatNode{}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for i := range files {
		if err := root.add(strings.Split(files[i].Path, "/"), &files[i]); err != nil {
			return nil, fmt.Errorf("add %q: %w", files[i].Path, err)
		}
	}
	root.nameShort()
	return root, nil
}

func (n *fatNode) add(path []string, file *File) error {
	if err := checkFATName(path[0]); err != nil {
		return err
	}
	var child *fatNode
	for _, c := range n.children {
		if foldName(c.name) == foldName(path[0]) {
			child = c
		}
	}
	if child != nil && (len(path) == 1 || child.file != nil || child.name != path[0]) {
		return fault.New(fault.Input, "%q is there already as %q", path[0], child.name)
	}
	if child == nil {
		child = &fatNode{name: path[0]}
		n.children = append(n.children, child)
	}
	if len(path) > 1 {
		return child.add(path[1:], file)
	}
	child.file = file
	return nil
}

// nameShort gives every node below n its alias and sorts the directories.
func (n *fatNode) nameShort() {
	slices.SortFunc(n.children, func(a, b *fatNode) int { return strings.Compare(a.name, b.name) })
	taken := map[string]bool{} // names that a reader may look up, in either form
	for _, c := range n.children {
		taken[foldName(c.name)] = true
	}
	for _, c := range n.children {
		alias, exact := shortAlias(c.name, func(a [shortName]byte) bool { return taken[shortText(a)] })
		c.alias = alias
		if !exact {
			taken[shortText(alias)] = true
			c.long = longEntries(c.name, alias)
		}
		c.nameShort()
	}
}
