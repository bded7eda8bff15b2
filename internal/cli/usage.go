package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/spec"
	"imagebuilder.dev/internal/ui"
)

// usageError is a wrong command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// usage says what is wrong with the command line of c.
func usage(c *cobra.Command, format string, args ...any) error {
	return fault.Hint(&usageError{fault.New(fault.Input, format, args...)}, "see '%s --help'", c.CommandPath())
}

// unknownCommand turns cobra's error into ours, with the nearest command.
func unknownCommand(parent *cobra.Command, err error) error {
	var name string
	if _, e := fmt.Sscanf(err.Error(), "unknown command %q", &name); e != nil {
		return usage(parent, "%w", err)
	}
	return misspelt(parent, "command", name, commandNames(parent))
}

func commandNames(parent *cobra.Command) []string {
	var names []string
	for _, c := range parent.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// takes checks how many arguments a command gets; their names stand in its Use.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(c, "the argument %s is missing", strings.Fields(c.Use)[1+len(args)])
		case len(args) > most && c.HasSubCommands():
			return misspelt(c, "command", args[most], commandNames(c))
		case len(args) > most:
			return usage(c, "unexpected argument %q", args[most])
		}
		return nil
	}
}

// choice checks a word of the command line that must be one of a few.
func choice(c *cobra.Command, what, given string, valid []string) error {
	if slices.Contains(valid, given) {
		return nil
	}
	return misspelt(c, what, given, valid)
}

// misspelt names the nearest valid word if there is one, else all.
func misspelt(c *cobra.Command, what, given string, valid []string) error {
	if near := spec.Nearest(given, valid); near != "" {
		return usage(c, "unknown %s %q; did you mean %q?", what, given, near)
	}
	return usage(c, "unknown %s %q; it is one of: %s", what, given, words(valid))
}

// chooseTarget checks --target, whose default is the spec's first.
func chooseTarget(c *cobra.Command, s *spec.Image, target *string) error {
	if *target == "" {
		*target = s.Spec.Targets[0]
	}
	return choice(c, "target of this spec", *target, s.Spec.Targets)
}

func choosePhase(c *cobra.Command, phase string) error {
	return choice(c, "phase", phase, build.Order())
}

func progressModes() []string {
	return []string{string(ui.Auto), string(ui.TTY), string(ui.Plain), string(ui.JSON)}
}

func words(list []string) string { return strings.Join(list, ", ") }
