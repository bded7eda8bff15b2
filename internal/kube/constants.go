package kube

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"

	"imagebuilder.dev/internal/fault"
)

// constantsFile is where kubeadm keeps the versions of what it deploys.
const constantsFile = "cmd/kubeadm/app/constants/constants.go"

// Constants are the tags of the images that a release's kubeadm deploys beside
// those of Kubernetes itself.
type Constants struct {
	Pause   string `json:"pause" yaml:"pause"`     // e.g. 3.10.2
	CoreDNS string `json:"coredns" yaml:"coredns"` // e.g. v1.14.2
	Etcd    string `json:"etcd" yaml:"etcd"`       // the image's tag, e.g. 3.6.8-0
}

// EtcdVersion returns the version of etcd's modules behind the image's tag:
// 3.6.8-0 is built from v3.6.8.
func (c Constants) EtcdVersion() string {
	version, _, _ := strings.Cut(c.Etcd, "-")
	return "v" + version
}

// ParseConstants reads the constants from the source text of kubeadm's
// constants package (cmd/kubeadm/app/constants/constants.go). The etcd version
// is the one that kubeadm picks for the minor version of its own release:
// SupportedEtcdVersion has it, or DefaultEtcdVersion.
func ParseConstants(source []byte, v Version) (Constants, error) {
	file, err := parser.ParseFile(token.NewFileSet(), constantsFile, source, parser.SkipObjectResolution)
	if err != nil {
		return Constants{}, fault.New(fault.Integrity, "reading kubeadm's constants: %w", err)
	}
	minor := v.minorNumber()
	values, etcd := literals(file, minor)
	c := Constants{Pause: values["PauseVersion"], CoreDNS: values["CoreDNSVersion"], Etcd: etcd[minor]}
	if c.Etcd == "" {
		c.Etcd = values["DefaultEtcdVersion"]
	}
	for name, value := range map[string]string{"PauseVersion": c.Pause, "CoreDNSVersion": c.CoreDNS, "DefaultEtcdVersion": c.Etcd} {
		if value == "" {
			return Constants{}, fault.New(fault.Internal, "kubeadm %s has no constant %s in %s", v, name, constantsFile)
		}
	}
	return c, nil
}

// literals returns the string constants and variables of a file, and the
// entries of its map SupportedEtcdVersion by minor version, for the minor
// version that the source belongs to.
func literals(file *ast.File, minor int) (values map[string]string, etcd map[int]string) {
	values, etcd = map[string]string{}, map[int]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range group.Specs {
			spec, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i := range min(len(spec.Names), len(spec.Values)) {
				if text, ok := stringOf(spec.Values[i]); ok {
					values[spec.Names[i].Name] = text
				} else if spec.Names[i].Name == "SupportedEtcdVersion" {
					mapEntries(spec.Values[i], minor, etcd)
				}
			}
		}
	}
	return values, etcd
}

func mapEntries(e ast.Expr, minor int, into map[int]string) {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return
	}
	for _, element := range lit.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, known := mapKey(pair.Key, minor)
		if text, ok := stringOf(pair.Value); ok && known {
			into[key] = text
		}
	}
}

// mapKey evaluates a key of SupportedEtcdVersion. Releases write it either as
// a number or as getSkewedKubernetesVersion(n).Minor(), which is n minor
// versions after (or, below zero, before) the release's own.
func mapKey(e ast.Expr, minor int) (key int, ok bool) {
	if n, isNumber := numberOf(e); isNumber {
		return n, true
	}
	ast.Inspect(e, func(node ast.Node) bool {
		call, isCall := node.(*ast.CallExpr)
		if !isCall || len(call.Args) != 1 {
			return true
		}
		if name, isName := call.Fun.(*ast.Ident); isName && name.Name == "getSkewedKubernetesVersion" {
			var skew int
			skew, ok = numberOf(call.Args[0])
			key = minor + skew
		}
		return !ok
	})
	return key, ok
}

func numberOf(e ast.Expr) (int, bool) {
	if negative, ok := e.(*ast.UnaryExpr); ok && negative.Op == token.SUB {
		n, ok := numberOf(negative.X)
		return -n, ok
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.INT {
		return 0, false
	}
	n, err := strconv.Atoi(lit.Value)
	return n, err == nil
}

func stringOf(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
