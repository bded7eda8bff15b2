// Package internal_test holds the rules of the whole house: who may import
// whom, where the doors are, and what no file may hold. ARCHITECTURE.md says
// the same in words.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "imagebuilder.dev/"

// imports says what each package may import of ours, in the order of the way
// of data. A package may not import one that stands below it.
var imports = []struct{ name, may string }{
	{"internal/fault", ""},
	{"internal/event", ""},
	{"internal/catalog", ""},
	{"internal/spec", "catalog fault"},
	{"internal/store", "fault"},
	{"internal/fetch", "event fault store"},
	{"internal/sandbox", "fault"},
	{"internal/deb", "event fault"},
	{"internal/oci", "event fault"},
	{"internal/kube", "event fault fetch sandbox store"},
	{"internal/lock", "fault kube"},
	{"internal/tools", "deb event fetch lock store"},
	{"internal/resolve", "catalog deb event fault fetch kube lock sandbox spec store tools"},
	{"internal/phase", "deb event fault lock oci sandbox"},
	{"internal/disk", "event fault sandbox"},
	{"internal/format/deflate", ""},
	{"internal/format", "event fault format/deflate"},
	{"internal/build", "catalog disk event fault fetch format kube lock oci phase sandbox spec store tools"},
	{"internal/boottest", "event fault sandbox"},
	{"internal/doctor", "fault kube sandbox"},
	{"internal/ui", "event fault"},
	{"internal/cli", "boottest build catalog doctor event fault fetch lock resolve sandbox spec store ui"},
	{"cmd/image-builder", "cli sandbox"},
}

// doors are the packages that can open a door, and who may import them and why.
// A door's subpackages belong to it, besides net/url and its like.
var doors = map[string]map[string]string{
	"os/exec": {"internal/sandbox": "the door to processes"},
	"net/http": {
		"internal/fetch":   "the door to the network",
		"internal/sandbox": "serves a handler of the builder inside a command's empty network namespace",
		"internal/kube":    "is such a handler: a module proxy that answers from the store",
	},
	"net": {
		"internal/fetch":   "time limits on connecting",
		"internal/sandbox": "the channel to the init process, and the listener that it hands over",
	},
	"crypto/tls": {}, "net/rpc": {}, "net/smtp": {}, "plugin": {}, "golang.org/x/net": {}, "google.golang.org/grpc": {},
}

// calls are what opens a socket or starts a process, and the one package that
// may: a package that imports net/http to serve must not ask.
var calls = map[string]string{
	"http.Get": "internal/fetch", "http.Head": "internal/fetch", "http.Post": "internal/fetch", "http.PostForm": "internal/fetch",
	"http.NewRequest": "internal/fetch", "http.NewRequestWithContext": "internal/fetch", "http.Client": "internal/fetch",
	"http.DefaultClient": "internal/fetch", "http.Transport": "internal/fetch", "http.DefaultTransport": "internal/fetch",
	"http.ListenAndServe": "", "net.Listen": "", "net.ListenPacket": "",
	"net.Dial": "internal/fetch", "net.DialTimeout": "internal/fetch", "net.Dialer": "internal/fetch",
	"os.StartProcess": "internal/sandbox", "syscall.ForkExec": "internal/sandbox", "syscall.StartProcess": "internal/sandbox",
	"syscall.Exec": "internal/sandbox", "unix.Exec": "internal/sandbox", "unix.Socket": "internal/sandbox", "syscall.Socket": "internal/sandbox",
	"unix.Connect": "", "syscall.Connect": "",
}

// state is the package-level variables that may hold state, and why.
var state = map[string]string{
	"internal/event.last": "numbers tasks, so that they are unique in the process",
}

// source is the files of one package that end up in the binary.
type source struct {
	dir   string // below the root, such as internal/cli
	doc   string
	files []*ast.File
}

// house parses all packages, in the order of their folders.
func house(t *testing.T) []source {
	t.Helper()
	found := map[string]*source{}
	fset := token.NewFileSet()
	for _, top := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() == "testdata" {
				return or(err, fs.SkipDir)
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			dir := filepath.ToSlash(filepath.Dir(path))[len("../"):]
			if found[dir] == nil {
				found[dir] = &source{dir: dir}
			}
			found[dir].files = append(found[dir].files, f)
			if f.Doc != nil {
				found[dir].doc = f.Doc.Text()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var out []source
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[dir])
	}
	return out
}

func or(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// imported returns the paths that a package imports, without repetition.
func (s source) imported() []string {
	set := map[string]bool{}
	for _, f := range s.files {
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value) // parsed
			set[path] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func TestImports(t *testing.T) {
	may := map[string][]string{}
	var above []string
	for _, p := range imports {
		for _, name := range strings.Fields(p.may) {
			if !slices.Contains(above, "internal/"+name) {
				t.Errorf("the table lets %s import internal/%s, which does not stand above it", p.name, name)
			}
			may[p.name] = append(may[p.name], "internal/"+name)
		}
		above = append(above, p.name)
	}
	have := map[string]bool{}
	for _, s := range house(t) {
		have[s.dir] = true
		if !slices.Contains(above, s.dir) {
			t.Errorf("package %s is not in the table: say where it stands and what it may import", s.dir)
			continue
		}
		for _, path := range s.imported() {
			ours, ok := strings.CutPrefix(path, module)
			if ok && !slices.Contains(may[s.dir], ours) {
				t.Errorf("%s imports %s; it may import: %s", s.dir, ours, strings.Join(may[s.dir], ", "))
			}
		}
	}
	for _, name := range above {
		if !have[name] {
			t.Errorf("the table has %s, but there is no such package", name)
		}
	}
}

func TestDoors(t *testing.T) {
	for _, s := range house(t) {
		for _, path := range s.imported() {
			for door, keepers := range doors {
				inside := path == door || door != "net" && strings.HasPrefix(path, door+"/")
				if inside && keepers[s.dir] == "" {
					t.Errorf("%s imports %s; only these may: %v", s.dir, path, slices.Sorted(maps.Keys(keepers)))
				}
			}
		}
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Obj == nil { // not a local variable
					name := pkg.Name + "." + sel.Sel.Name
					if keeper, ok := calls[name]; ok && keeper != s.dir {
						t.Errorf("%s uses %s; only %q may", s.dir, name, keeper)
					}
				}
				return true
			})
		}
	}
}

// TestNoState finds init functions and package-level variables that hold state.
func TestNoState(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range house(t) {
		variables := s.variables()
		for _, f := range s.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s has an init function", s.dir)
				}
			}
			for _, name := range written(f, variables) {
				t.Errorf("%s writes to its package-level variable %s", s.dir, name)
			}
		}
		for name, spec := range variables {
			id := s.dir + "." + name
			seen[id] = true
			if !constant(spec) && state[id] == "" {
				t.Errorf("%s is a package-level variable that can hold state: pass it, or make it a value that is not written", id)
			}
		}
	}
	for id := range state {
		if !seen[id] {
			t.Errorf("the list has %s, but there is no such variable", id)
		}
	}
}

// variables returns a package's variables besides _.
func (s source) variables() map[string]*ast.ValueSpec {
	out := map[string]*ast.ValueSpec{}
	for _, f := range s.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for _, name := range v.Names {
					if name.Name != "_" {
						out[name.Name] = v
					}
				}
				if v.Doc == nil {
					v.Doc = g.Doc // where a go:embed directive stands
				}
			}
		}
	}
	return out
}

// constant reports whether a variable is a constant that the language cannot
// express, such as an error, a regular expression or a table: it is given its
// value where it is declared or by go:embed. A pointer or something made to be
// filled is none.
func constant(v *ast.ValueSpec) bool {
	for _, e := range v.Values {
		if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
			return false
		}
		if c, ok := e.(*ast.CallExpr); ok {
			if id, ok := c.Fun.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
				return false
			}
		}
	}
	if len(v.Values) > 0 {
		return true
	}
	if v.Doc == nil {
		return false
	}
	return slices.ContainsFunc(v.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// written returns the variables of a package that a file assigns to, counts up
// or takes the address of.
func written(f *ast.File, variables map[string]*ast.ValueSpec) (names []string) {
	check := func(e ast.Expr) {
		if id := base(e); id != nil && variables[id.Name] != nil && (id.Obj == nil || id.Obj.Decl == variables[id.Name]) {
			names = append(names, id.Name)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					check(e)
				}
			}
		case *ast.IncDecStmt:
			check(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				check(n.X)
			}
		}
		return true
	})
	return names
}

// base returns x of x, x.field, x[i] and *x.
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, s := range house(t) {
		want := "Package " + s.files[0].Name.Name + " "
		if s.files[0].Name.Name == "main" {
			want = "Command " + filepath.Base(s.dir) + " "
		}
		if !strings.HasPrefix(s.doc, want) {
			t.Errorf("the comment of package %s begins with %.40q, want %q", s.dir, s.doc, want)
		}
	}
}
