// Package phase holds the named steps that make a root filesystem, a file each.
// A phase declares its inputs, which with its version and the phases before it
// decide its result; it gets the tree that they left and changes it.
package phase

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"imagebuilder.dev/internal/sandbox"
)

// Input is a thing that a phase's result depends on.
type Input struct {
	Kind   string `json:"kind"` // package, file, setting, program, image
	Name   string `json:"name"`
	Digest string `json:"digest"` // SHA-256 (hex), or the setting's value
}

// Phase is one step.
type Phase struct {
	Name string
	// Version changes when the same inputs would give another result.
	Version int
	Inputs  []Input
	// Prepare brings the inputs to this host. It may use the network, and it
	// is called before Run unless the result is there already; nil is nothing to do.
	Prepare func(ctx context.Context) error
	// Run changes the root. It has no network.
	Run func(ctx context.Context, r *Root) error
}

// Key names the phase's result in the store. It covers the inputs in any
// order, the architecture and the key of the phase before.
func (p Phase) Key(parent, arch string) string {
	inputs := slices.Clone(p.Inputs)
	slices.SortFunc(inputs, func(a, b Input) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
	})
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %q %q\n", p.Name, p.Version, arch, parent)
	for _, i := range inputs {
		fmt.Fprintf(h, "%q %q %q\n", i.Kind, i.Name, i.Digest)
	}
	return p.Name + "-" + hex.EncodeToString(h.Sum(nil))[:32]
}

// setting is an input that is a value.
func setting(name string, value any) Input { return Input{"setting", name, fmt.Sprint(value)} }

// content is an input that is text of ours or the user's.
func content(name string, data []byte) Input {
	sum := sha256.Sum256(data)
	return Input{"file", name, hex.EncodeToString(sum[:])}
}

// command is what a phase runs inside the root: the root is /, there is no
// network, and the clock that tools stamp things with is the source epoch.
func (r *Root) command(args ...string) sandbox.Command {
	return sandbox.Command{Root: r.dir, Args: args, Env: []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.Epoch.Unix()),
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "DEBCONF_NOWARNINGS=yes", "UCF_FORCE_CONFFOLD=1",
		"PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=0", "TZ=UTC",
	}}
}

// Exec runs a program inside the root.
func (r *Root) Exec(ctx context.Context, args ...string) error {
	return sandbox.Run(ctx, r.command(args...))
}

// Output runs a program inside the root and returns what it prints.
func (r *Root) Output(ctx context.Context, args ...string) ([]byte, error) {
	return sandbox.Output(ctx, r.command(args...))
}
