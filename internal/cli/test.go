package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		Args:  takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Image = args[0]
			return a.test(c, o)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.firmware, "firmware", []string{"bios"}, words(firmwares())+": the first gets the whole proof, each other one a clone")
	f.StringVar(&o.accel, "accel", "auto", "what runs the machine's code: "+words(accels())+"; auto is kvm where it works")
	f.IntVar(&o.Memory, "memory", 4096, "memory of the machine, in MiB")
	f.IntVar(&o.CPUs, "cpus", 2, "processors of the machine")
	f.StringVarP(&o.Output, "out", "o", "", "folder for record.json, junit.xml and the consoles; default IMAGE.test")
	f.DurationVar(&o.Timeout, "timeout", 90*time.Minute, "time limit for all boots together")
	f.BoolVar(&o.machine, "machine", false, "prove a clean machine only, not a Kubernetes node")
	a.jsonFlag(c)
	return c
}

func (a *app) test(c *cobra.Command, o testOptions) error {
	if err := choice(c, "value of --accel", o.accel, accels()); err != nil {
		return err
	}
	for _, f := range o.firmware {
		if err := choice(c, "value of --firmware", f, firmwares()); err != nil {
			return err
		}
		o.Firmware = append(o.Firmware, boottest.Firmware(f))
	}
	if err := boottest.CheckImage(o.Image); err != nil {
		return err // before anything is started
	}
	o.Accel, o.Kubernetes, o.Builder = boottest.Accel(o.accel), !o.machine, version()
	if o.Output == "" {
		o.Output = o.Image + ".test"
	}
	var record *boottest.Record
	err := a.work(c.Context(), func(ctx context.Context, s *session) (err error) {
		if o.Tools, err = s.resolver.TestTools(ctx); err != nil {
			return err
		}
		if o.WorkDir, err = s.store.TempDir("boot"); err != nil {
			return err
		}
		defer os.RemoveAll(o.WorkDir)
		record, err = boottest.Run(ctx, o.Options)
		return err
	})
	if record != nil && a.json {
		return errors.Join(err, a.printJSON(record))
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
	what := "a working Kubernetes node"
	if !r.Kubernetes {
		what = "a clean machine"
	}
	_, err := fmt.Fprintf(a.out, "\n%s (sha256 %s) is %s; the record is in %s\n", r.Image.Path, r.Image.SHA256, what, dir)
	return err
}

func firmwares() []string {
	return []string{string(boottest.BIOS), string(boottest.UEFI), string(boottest.SecureBoot)}
}

func accels() []string {
	return []string{string(boottest.Auto), string(boottest.KVM), string(boottest.TCG)}
}
