package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/fault"
	"imagebuilder.dev/internal/spec"
)

func (a *app) initCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented starter spec",
		Args:  takes(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := "image.yaml"
			if len(args) > 0 {
				path = args[0]
			}
			return a.init(path, name)
		},
	}
	c.Flags().StringVar(&name, "name", "", "the image's name; default OS name, version and kube")
	return c
}

func (a *app) init(path, name string) error {
	text := spec.Starter(name)
	var wrong spec.Errors
	if _, _, err := spec.Load(path, text); errors.As(err, &wrong) {
		return fault.New(fault.Input, "--name: %s", wrong[0].Message) // the only thing in it that is not ours
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fault.Hint(fault.New(fault.Input, "%s exists already", path), "name another file: image-builder init FILE")
	}
	if err != nil {
		return fault.New(fault.Input, "write the starter spec: %w", err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "wrote %s; build it with: image-builder build -f %s\n", path, path)
	return nil
}
