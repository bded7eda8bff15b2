package kube

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
)

// kind is what a request to a module proxy asks for.
type kind string

// The kinds of the GOPROXY protocol (https://go.dev/ref/mod#goproxy-protocol).
const (
	kindList   kind = "list"   // the known versions of a module
	kindLatest kind = "latest" // the version when there is no list
	kindInfo   kind = "info"   // a version's time
	kindMod    kind = "mod"    // a version's go.mod
	kindZip    kind = "zip"    // a version's files
	kindSumDB  kind = "sumdb"  // a request to the checksum database, passed on
)

// request is a parsed path of the protocol.
type request struct {
	Kind    kind
	Module  string // unescaped; empty for sumdb
	Version string // unescaped; for info, mod and zip
	Tail    string // of sumdb: the database's name and what follows it
}

// The paths that a client of the checksum database asks for
// (https://go.dev/design/25530-sumdb#checksum-database).
var sumdbTail = regexp.MustCompile(`^[a-zA-Z0-9.-]+/(supported|latest|lookup/[a-zA-Z0-9!./_~@+-]+|tile/[0-9]+/[0-9]+/[0-9x/]+(\.p/[0-9]+)?|tile/[0-9]+/data/[0-9x/]+(\.p/[0-9]+)?)$`)

// parseRequest reads the path of a request, which starts with a slash.
func parseRequest(p string) (request, error) {
	rest, ok := strings.CutPrefix(p, "/")
	if !ok || rest == "" || path.Clean(p) != p {
		return request{}, fmt.Errorf("%q is no path of the module proxy protocol", p)
	}
	if tail, ok := strings.CutPrefix(rest, "sumdb/"); ok {
		if !sumdbTail.MatchString(tail) {
			return request{}, fmt.Errorf("%q is no path of the checksum database", p)
		}
		return request{Kind: kindSumDB, Tail: tail}, nil
	}
	escaped, what, ok := strings.Cut(rest, "/@")
	if !ok {
		return request{}, fmt.Errorf("%q names no file of a module", p)
	}
	name, err := module.UnescapePath(escaped)
	if err != nil {
		return request{}, err
	}
	switch what {
	case "latest":
		return request{Kind: kindLatest, Module: name}, nil
	case "v/list":
		return request{Kind: kindList, Module: name}, nil
	}
	file, ok := strings.CutPrefix(what, "v/")
	dot := strings.LastIndexByte(file, '.')
	if !ok || dot < 0 {
		return request{}, fmt.Errorf("%q names no file of a module", p)
	}
	version, err := module.UnescapeVersion(file[:dot])
	if err != nil {
		return request{}, err
	}
	switch k := kind(file[dot+1:]); k {
	case kindInfo, kindMod, kindZip:
		return request{Kind: k, Module: name, Version: version}, nil
	default:
		return request{}, fmt.Errorf("%q names no file of a module", p)
	}
}

// path is the inverse of parseRequest.
func (r request) path() (string, error) {
	if r.Kind == kindSumDB {
		return "/sumdb/" + r.Tail, nil
	}
	name, err := module.EscapePath(r.Module)
	if err != nil {
		return "", err
	}
	switch r.Kind {
	case kindLatest:
		return "/" + name + "/@latest", nil
	case kindList:
		return "/" + name + "/@v/list", nil
	}
	version, err := module.EscapeVersion(r.Version)
	if err != nil {
		return "", err
	}
	return "/" + name + "/@v/" + version + "." + string(r.Kind), nil
}

// String names the file for messages and for the index.
func (r request) String() string {
	switch r.Kind {
	case kindSumDB:
		return r.Tail
	case kindLatest, kindList:
		return r.Module + " " + string(r.Kind)
	default:
		return at(r.Module, r.Version) + "." + string(r.Kind)
	}
}
