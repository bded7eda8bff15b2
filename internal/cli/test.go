package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"imagebuilder.dev/internal/boottest"
	"imagebuilder.dev/internal/ui"
)

type testOptions struct {
	boottest.Options
	firmware []string
	accel    string
	machine  bool
}

func (a *app) testCommand() *cobra.Command {
	var o testOptions
	c := &cobra.Command{
		Use:   "test IMAGE",
		Short: "Boot an image and prove that it is a Kubernetes node",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Image = args[0]
			return a.test(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.firmware, "firmware", []string{"bios"}, "bios, uefi, secureboot: the first gets the whole proof, each other one a clone")
	f.StringVar(&o.accel, "accel", "auto", "auto, kvm or tcg")
	f.IntVar(&o.Memory, "memory", 4096, "of the machine, in MiB")
	f.IntVar(&o.CPUs, "cpus", 2, "of the machine")
	f.StringVarP(&o.Output, "out", "o", "", "folder for record.json, junit.xml and the consoles; default IMAGE.test")
	f.DurationVar(&o.Timeout, "timeout", 90*time.Minute, "for everything")
	f.BoolVar(&o.machine, "machine", false, "prove a clean machine only, not a Kubernetes node")
	a.jsonFlag(c)
	return c
}

func (a *app) test(ctx context.Context, o testOptions) error {
	if err := boottest.CheckImage(o.Image); err != nil {
		return err // before anything is started
	}
	for _, f := range o.firmware {
		o.Firmware = append(o.Firmware, boottest.Firmware(f))
	}
	o.Accel, o.Kubernetes, o.Builder = boottest.Accel(o.accel), !o.machine, version()
	if o.Output == "" {
		o.Output = o.Image + ".test"
	}
	var record *boottest.Record
	err := a.work(ctx, func(ctx context.Context, s *session) (err error) {
		if o.Tools, err = s.resolver.TestTools(ctx); err != nil {
			return err
		}
		if o.WorkDir, err = s.store.TempDir("boot"); err != nil {
			return err
		}
		record, err = boottest.Run(ctx, o.Options)
		return err
	})
	if record != nil && a.json {
		a.printJSON(record)
	} else if record != nil && err == nil {
		return a.printRecord(record, o.Output)
	}
	return err
}

func (a *app) printRecord(r *boottest.Record, dir string) error {
	var rows [][]string
	for _, b := range r.Boots {
		for _, c := range b.Checks {
			rows = append(rows, []string{b.Name, c.Name, ui.Duration(time.Duration(c.Seconds * float64(time.Second)))})
		}
	}
	if err := ui.Table(a.out, []string{"boot", "holds", "after"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "\n%s (sha256 %s) is a working node; the record is in %s\n", r.Image.Path, r.Image.SHA256, dir)
	return err
}
