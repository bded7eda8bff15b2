package oci

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// daemon is a real containerd over a data root.
type daemon struct {
	t           *testing.T
	bin, socket string
}

// startDaemon starts the containerd found in the folder that
// IMAGE_BUILDER_TEST_CONTAINERD names, with its CRI plugin on. It stops when
// the test ends.
func startDaemon(t *testing.T, bin, root string) daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "oci") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := daemon{t: t, bin: bin, socket: filepath.Join(dir, "s")}
	config := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n"+
		"[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'registry.k8s.io/pause:3.10.2'\n", root, dir+"/state", d.socket)
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "containerd"), "--config", dir+"/config.toml")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	booted, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			fmt.Fprintln(&output, lines.Text())
			if strings.Contains(lines.Text(), "successfully booted") {
				close(booted)
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		cmd.Wait()
		if t.Failed() || testing.Verbose() {
			t.Logf("containerd said:\n%s", output.String())
		}
	})
	select {
	case <-booted:
	case <-ended:
		t.Fatal("containerd ended at its start")
	}
	return d
}

func (d daemon) ctr(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(d.bin, "ctr"), append([]string{"--address", d.socket, "-n", criNamespace}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Errorf("ctr %v: %v\n%s", args, err, stderr.String())
	}
	d.t.Logf("ctr %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

// rawCodec passes protobuf messages as bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// criImages asks the CRI plugin for its images (runtime.v1.ImageService) and
// returns a line each: tags, digests, then "pinned" if it is.
func (d daemon) criImages(ctx context.Context) []string {
	d.t.Helper()
	conn, err := grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	var request, response []byte
	if err := conn.Invoke(ctx, "/runtime.v1.ImageService/ListImages", &request, &response); err != nil {
		d.t.Fatal(err)
	}
	var lines []string
	eachField(d.t, response, func(_ protowire.Number, image []byte, _ uint64) {
		var words []string
		eachField(d.t, image, func(n protowire.Number, value []byte, number uint64) {
			switch n {
			case 2, 3: // repo_tags, repo_digests
				words = append(words, string(value))
			case 8:
				if number == 1 {
					words = append(words, "pinned")
				}
			}
		})
		lines = append(lines, strings.Join(words, " "))
	})
	slices.Sort(lines)
	return lines
}

func eachField(t *testing.T, message []byte, field func(n protowire.Number, value []byte, number uint64)) {
	t.Helper()
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			t.Fatal("malformed answer")
		}
		message = message[size:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			t.Fatal("malformed answer")
		}
		field(n, value, number)
		message = message[size:]
	}
}

// A real containerd lists our images, keeps them over its garbage collection
// and a restart, and runs a container from one, all without a layer blob.
func TestRealContainerd(t *testing.T) {
	bin := os.Getenv("IMAGE_BUILDER_TEST_CONTAINERD")
	if bin == "" {
		t.Skip("IMAGE_BUILDER_TEST_CONTAINERD names no folder with containerd and ctr")
	}
	if os.Getuid() != 0 {
		t.Skip("containerd needs root")
	}
	tool := build(t, "registry.k8s.io/tool:v1", Layer{Files: []File{file("/etc/base", "1")}},
		Layer{Files: []File{{Path: "/bin/app", Source: filepath.Join(bin, "ctr"), Mode: 0o755}}})
	imgs := append(samples(t), tool)
	root := fill(t, imgs)
	var want []string
	for _, m := range imgs {
		words := slices.Clone(m.Names)
		slices.Sort(words)
		words = append(words, m.Names[0][:strings.LastIndex(m.Names[0], ":")]+"@"+m.Manifest.Digest.String())
		if strings.Contains(m.Names[0], "pause") {
			words = append(words, "pinned")
		}
		want = append(want, strings.Join(words, " "))
	}
	slices.Sort(want)
	t.Run("first start", func(t *testing.T) { checkDaemon(t, startDaemon(t, bin, root), want) })
	t.Run("restart", func(t *testing.T) { checkDaemon(t, startDaemon(t, bin, root), want) })
}

func checkDaemon(t *testing.T, d daemon, want []string) {
	// Making and deleting an image makes containerd collect garbage at once.
	d.ctr("images", "tag", "registry.k8s.io/tool:v1", "registry.k8s.io/tool:v2")
	d.ctr("images", "rm", "--sync", "registry.k8s.io/tool:v2")
	d.ctr("images", "ls")
	d.ctr("snapshots", "ls")
	for line := range strings.Lines(d.ctr("images", "check")) {
		if f := strings.Fields(line); f[0] != "REF" && f[len(f)-1] != "true" {
			t.Errorf("not unpacked: %s", line)
		}
	}
	if got := d.criImages(t.Context()); !slices.Equal(got, want) {
		t.Errorf("CRI lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Log("no runc: no container was started")
		return
	}
	if out := d.ctr("run", "--rm", "registry.k8s.io/tool:v1", "try", "/bin/app", "--version"); !strings.HasPrefix(out, "ctr ") {
		t.Errorf("the container said %q", out)
	}
}
