package kube

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imagebuilder.dev/internal/fault"
)

// Network says where modules come from and who vouches for them.
type Network struct {
	Proxies []string // base URLs of module proxies, tried in order
	// SumDB names the checksum database, or is its verifier key (name+hash+key),
	// as GOSUMDB does.
	SumDB string
}

// checksumKey is the public key of Go's checksum database without the
// database's name, which the key's own hash binds to it.
const checksumKey = "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// FindNetwork takes the proxies of the spec, else those that the go command on
// this host would use; the checksum database likewise. No process is started:
// the environment, the user's go/env file and the toolchain's go.env are read,
// in this order, as the go command does.
func FindNetwork(proxies []string) (Network, error) {
	settings := goSettings()
	n := Network{Proxies: slices.Clone(proxies), SumDB: settings("GOSUMDB")}
	if len(n.Proxies) == 0 {
		n.Proxies = splitProxies(settings("GOPROXY"))
	}
	for i, p := range n.Proxies {
		n.Proxies[i] = strings.TrimRight(p, "/")
	}
	if len(n.Proxies) == 0 {
		return n, fault.Hint(fault.New(fault.Environment, "no Go module proxy is known"),
			"set GOPROXY to the address of a module proxy, or name one in spec.mirrors.modules")
	}
	if n.SumDB == "off" {
		return n, fault.Hint(fault.New(fault.Environment, "GOSUMDB is off, so modules cannot be verified"),
			"unset GOSUMDB or set it to a checksum database; verification cannot be turned off")
	}
	if n.SumDB == "" {
		return n, fault.Hint(fault.New(fault.Environment, "no checksum database for Go modules is known"),
			"set GOSUMDB to the name of the checksum database")
	}
	// The go command allows "key URL"; the address is ours to choose.
	n.SumDB, _, _ = strings.Cut(n.SumDB, " ")
	return n, nil
}

// sumDBKey returns the database's verifier key in the form of golang.org/x/mod/sumdb/note.
func (n Network) sumDBKey() string {
	if strings.Contains(n.SumDB, "+") {
		return n.SumDB
	}
	return n.SumDB + checksumKey
}

// sumDBName returns the database's name, which is also its host.
func (n Network) sumDBName() string {
	name, _, _ := strings.Cut(n.SumDB, "+")
	return name
}

// urls returns where a path of the proxy protocol may be had.
func (n Network) urls(path string) []string {
	var list []string
	for _, p := range n.Proxies {
		list = append(list, p+path)
	}
	return list
}

// splitProxies reads a GOPROXY list. Fetching straight from repositories is
// not possible here, so "direct" is skipped and "off" ends the list.
func splitProxies(list string) []string {
	var proxies []string
	for p := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '|' }) {
		p = strings.TrimSpace(p)
		if p == "off" {
			break
		}
		if p != "direct" && p != "" {
			proxies = append(proxies, p)
		}
	}
	return proxies
}

// goSettings returns how the go command of this host resolves a setting.
func goSettings() func(name string) string {
	var layers []map[string]string
	if path := userGoEnv(); path != "" {
		layers = append(layers, readGoEnv(path))
	}
	if root, ok := HostGo(); ok {
		layers = append(layers, readGoEnv(filepath.Join(root, "go.env")))
	}
	return func(name string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		for _, l := range layers {
			if v := l[name]; v != "" {
				return v
			}
		}
		return ""
	}
}

func userGoEnv() string {
	switch path := os.Getenv("GOENV"); path {
	case "off":
		return ""
	case "":
		dir, err := os.UserConfigDir()
		if err != nil {
			return ""
		}
		return filepath.Join(dir, "go", "env")
	default:
		return path
	}
}

// readGoEnv reads a file of NAME=VALUE lines; a missing one is empty.
func readGoEnv(path string) map[string]string {
	values := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return values
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if ok && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	return values
}
