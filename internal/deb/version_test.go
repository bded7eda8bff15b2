package deb_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"imagebuilder.dev/internal/deb"
)

// versions are pairs, and how the first compares with the second.
var versions = []struct {
	a, b string
	want int
}{
	{"1.0", "1.0", 0},
	{"1.0", "1.1", -1},
	{"1.10", "1.9", 1},
	{"1.0-1", "1.0", 1},
	{"1.0-0", "1.0", 0},
	{"1.0", "0:1.0", 0},
	{"1:0.5", "2.0", 1},
	{"10:1", "9:1", 1},
	{"01:1", "1:1", 0},
	{"1.0~rc1", "1.0", -1},
	{"1.0~", "1.0", -1},
	{"1.0~~", "1.0~", -1},
	{"1.0~~a", "1.0~", -1},
	{"1.0-1~bpo12+1", "1.0-1", -1},
	{"1.0-1+deb13u1", "1.0-1", 1},
	{"1.0a", "1.0+", -1},
	{"1.0a", "1.0.", -1},
	{"1.0Z", "1.0a", -1},
	{"1.0", "1.0a", -1},
	{"1.001", "1.1", 0},
	{"1.0-2-1", "1.0-1-2", 1},
	{"1.2.3-10", "1.2.3-9", 1},
	{"6.12.43-1", "6.12.9-1", 1},
	{"1.99999999999999999999999999", "1.100000000000000000000000000", -1},
	{"0", "0.0", -1},
	{"2:1:1", "2:1:0", 1},
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func TestCompareVersions(t *testing.T) {
	for _, v := range versions {
		if got := sign(deb.CompareVersions(v.a, v.b)); got != v.want {
			t.Errorf("%s against %s is %d, want %d", v.a, v.b, got, v.want)
		}
		if got := sign(deb.CompareVersions(v.b, v.a)); got != -v.want {
			t.Errorf("%s against %s is %d, want %d", v.b, v.a, got, -v.want)
		}
	}
}

func TestCompareVersionsLikeDpkg(t *testing.T) {
	dpkg := hostTool(t, "dpkg")
	for _, v := range versions {
		op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[v.want]
		if err := exec.Command(dpkg, "--compare-versions", v.a, op, v.b).Run(); err != nil {
			t.Errorf("dpkg does not say that %s %s %s: %v", v.a, op, v.b, err)
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	for _, v := range versions {
		f.Add(v.a, v.b, v.a+"~")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, bc, ac := sign(deb.CompareVersions(a, b)), sign(deb.CompareVersions(b, c)), sign(deb.CompareVersions(a, c))
		if ba := sign(deb.CompareVersions(b, a)); ab != -ba {
			t.Errorf("%q and %q compare as %d, the other way round as %d", a, b, ab, ba)
		}
		if deb.CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Errorf("%q <= %q <= %q, but the first is above the last", a, b, c)
		}
		if digits := regexp.MustCompile(`^[0-9.]+$`); digits.MatchString(a) && !strings.HasSuffix(a, ".") && deb.CompareVersions(a+"~", a) >= 0 {
			t.Errorf("%q~ is not below %q", a, a)
		}
	})
}
