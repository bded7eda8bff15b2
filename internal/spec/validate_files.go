package spec

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	modeForm  = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	ownerForm = regexp.MustCompile(`^[0-9]+:[0-9]+$`)
	// fileForm is what the schema can say about File.Path; the rest is filePath's.
	fileForm = regexp.MustCompile(`^/.*[^/]$`)
)

// maxPath is Linux' PATH_MAX without the final zero byte.
const maxPath = 4095

// notWritten are directories that the kernel or systemd mounts something over
// at boot: a file written there would never be seen.
func notWritten() []string {
	return []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/var/run", "/var/lock"}
}

func (v *validator) files() {
	t := tree{files: map[string]int{}, dirs: map[string]int{}}
	for i, f := range v.img.Spec.Files {
		here := item("spec.files", i)
		if !v.given(here) {
			continue
		}
		if v.given(here+".path") && v.filePath(here+".path", f.Path) {
			v.fileAgain(i, f.Path, t)
		}
		v.fileContent(here, f)
		if v.given(here+".mode") && !modeForm.MatchString(f.Mode) {
			v.addf(here+".mode", "%s.mode %s is not a file mode; write three or four octal digits in quotes, e.g. \"0644\"", here, shorten(f.Mode))
		}
		if _, _, ok := ownerIDs(f.Owner); v.given(here+".owner") && !ok {
			v.addf(here+".owner", "%s.owner %s is not an owner; write uid:gid as numbers, e.g. \"0:0\"", here, shorten(f.Owner))
		}
	}
}

func (v *validator) filePath(here, p string) bool {
	switch {
	case len(p) > maxPath:
		v.addf(here, "%s has %d bytes; at most %d are allowed", here, len(p), maxPath)
	case p == "":
		v.addf(here, "%s is empty; write an absolute path", here)
	case !strings.HasPrefix(p, "/"):
		v.addf(here, "%s %s must be absolute; did you mean %s?", here, shorten(p), shorten(path.Clean("/"+p)))
	case strings.ContainsFunc(p, isControl):
		v.addf(here, "%s %s has a control character in it", here, shorten(p))
	case path.Clean(p) == "/":
		v.addf(here, "%s is the root directory; write the path of a file", here)
	case path.Clean(p) != p:
		v.addf(here, "%s %s is not a clean path; did you mean %s?", here, shorten(p), shorten(path.Clean(p)))
	case slices.ContainsFunc(notWritten(), func(dir string) bool { return within(p, dir) }):
		v.addf(here, "%s %s would be hidden at boot: nothing can be put into %s", here, shorten(p), strings.Join(notWritten(), ", "))
	default:
		return true
	}
	return false
}

// tree is where the files so far stand: by their own paths and by those of the
// directories above them. The values are indexes in spec.files.
type tree struct{ files, dirs map[string]int }

// fileAgain reports a path that an earlier file has, that an earlier file needs
// as a directory, or whose own directory is an earlier file.
func (v *validator) fileAgain(i int, p string, t tree) {
	here := item("spec.files", i) + ".path"
	line := func(first int) int { return v.src.At(item("spec.files", first)).Line }
	if first, ok := t.files[p]; ok {
		v.addf(here, "%s %s is given twice; the first is on line %d", here, shorten(p), line(first))
		return
	}
	if first, ok := t.dirs[p]; ok {
		v.addf(here, "%s %s is a directory for the file on line %d", here, shorten(p), line(first))
		return
	}
	t.files[p] = i
	for dir := above(p); dir != ""; dir = above(dir) {
		if first, ok := t.files[dir]; ok {
			v.addf(here, "%s %s is in %s, which is a file on line %d", here, shorten(p), shorten(dir), line(first))
			return
		}
		t.dirs[dir] = i
	}
}

// above returns the directory of a clean absolute path, "" for the root. Unlike
// path.Dir it does not copy, which long paths would feel.
func above(p string) string { return p[:strings.LastIndexByte(p, '/')] }

func (v *validator) fileContent(here string, f File) {
	content, source := v.src.Has(here+".content"), v.src.Has(here+".source")
	switch {
	case v.bad[here+".content"] || v.bad[here+".source"]:
	case content && source:
		v.addf(here+".source", "%s has both content and source; keep one", here)
	case !content && !source:
		v.addf(here, "%s needs content (the text of the file) or source (a local file)", here)
	case source:
		v.localPath(here+".source", f.Source)
	}
}

// within tells whether the clean path p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// IDs returns the numbers of the file's owner. The file comes from Load.
func (f File) IDs() (uid, gid uint32) {
	uid, gid, _ = ownerIDs(f.Owner)
	return uid, gid
}

// ownerIDs reads uid:gid. The largest number, 2^32-1, means "unchanged" to
// chown and is not an owner.
func ownerIDs(owner string) (uid, gid uint32, ok bool) {
	if !ownerForm.MatchString(owner) {
		return 0, 0, false
	}
	user, group, _ := strings.Cut(owner, ":")
	u, errU := parseID(user)
	g, errG := parseID(group)
	return u, g, errU == nil && errG == nil
}

func parseID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = fmt.Errorf("%s is no user or group", text)
	}
	return uint32(n), err
}

// Perm returns the file's mode bits, setuid, setgid and sticky in their Unix
// places (04000, 02000, 01000). The file comes from Load.
func (f File) Perm() uint32 {
	mode, _ := strconv.ParseUint(f.Mode, 8, 32)
	return uint32(mode)
}
