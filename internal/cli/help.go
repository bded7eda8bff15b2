package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// group is commands that belong together in the help.
type group struct {
	title    string
	commands []*cobra.Command
}

// groups are all commands, in the order in which they are used.
func (a *app) groups() []group {
	return []group{
		{"Write a spec", []*cobra.Command{a.initCommand(), a.validateCommand()}},
		{"Build it", []*cobra.Command{a.lockCommand(), a.planCommand(), a.buildCommand()}},
		{"Look at the result", []*cobra.Command{a.testCommand(), a.shellCommand()}},
		{"Housekeeping", []*cobra.Command{a.cacheCommand(), a.doctorCommand(), a.catalogCommand(), a.versionCommand()}},
	}
}

const intro = `Start here:
  image-builder init                   write image.yaml, a commented spec
  image-builder build                  build it into out/
  image-builder test out/IMAGE.qcow2   boot it and prove that it is a node
`

const outro = `Exit codes: 0 ok, 1 a defect of ours, 2 wrong input, 3 the host lacks something,
4 network, 5 a digest or signature does not match, 6 a check failed, 130 interrupted.

The store of inputs and results is in $IMAGE_BUILDER_HOME; without it, in
image-builder in your cache folder. Help on a command: image-builder COMMAND --help
`

// help prints the help of the whole program. A failed write has nobody to
// be told to.
func (a *app) help(root *cobra.Command, groups []group) {
	fmt.Fprintf(a.out, "%s\n\n%s\n", root.Short, intro)
	for _, g := range groups {
		fmt.Fprintf(a.out, "%s:\n", g.title)
		for _, c := range g.commands {
			fmt.Fprintf(a.out, "  %-9s  %s\n", c.Name(), c.Short)
		}
		fmt.Fprintln(a.out)
	}
	fmt.Fprintf(a.out, "Flags of every command:\n%s\n%s", root.PersistentFlags().FlagUsages(), outro)
}

// helpCommand is cobra's, but an unknown command is an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Help on a command",
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil {
				return unknownCommand(root, err)
			}
			if len(rest) > 0 {
				return usage(c, "unexpected argument %q", strings.Join(rest, " "))
			}
			return c.Help()
		},
	}
}
