package integration

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"imagebuilder.dev/internal/build"
	"imagebuilder.dev/internal/oci"
)

const version = "v1.36.3"

// TestReleaseAndDirectory builds up to the kubernetes phase from a release
// server and from a folder, both filled with the programs that source modules
// compiled, and finds the same programs and the images that kubeadm names.
func TestReleaseAndDirectory(t *testing.T) {
	s := openStore(t)
	in := quickstartInputs(t, s)
	programs, err := in.Kube.Compile(t.Context(), in.Lock.Kubernetes.Modules)
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	dir := filepath.Join(base, version, "bin/linux/amd64")
	for _, name := range []string{"kubeadm", "kubectl", "kubelet"} {
		copyFile(t, programs[name].Path, filepath.Join(dir, name))
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		saveImage(t, in, name, programs[name].Path, filepath.Join(dir, name+".tar"))
	}
	checksums(t, dir)
	server := httptest.NewServer(http.FileServer(http.Dir(base)))
	defer server.Close()
	for source, where := range map[string]string{"release": "url: " + server.URL, "directory": "path: " + base} {
		t.Run(source, func(t *testing.T) {
			text := fmt.Sprintf("apiVersion: imagebuilder.dev/v1alpha1\nkind: Image\nspec:\n  kubernetes: {version: %s, source: %s, %s}\n", version, source, where)
			withRoot(t, inputs(t, s, text, nil), "kubernetes", func(root string) { checkKubernetes(t, root, programs["kubelet"].SHA256) })
		})
	}
	t.Run("tampered", func(t *testing.T) {
		f, err := os.OpenFile(filepath.Join(dir, "kubelet"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("x")
		f.Close()
		err = resolveErr(t, s, "directory", "path: "+base)
		if err == nil || !strings.Contains(err.Error(), "kubelet") {
			t.Errorf("a tampered kubelet was taken: %v", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		os.Remove(filepath.Join(dir, "kubectl"))
		os.Remove(filepath.Join(dir, "kubectl.sha256"))
		err := resolveErr(t, s, "release", "url: "+server.URL)
		if err == nil || !strings.Contains(err.Error(), "image.yaml:4:") || !strings.Contains(err.Error(), "kubectl") {
			t.Errorf("a missing kubectl gave %v", err)
		}
	})
}

func checkKubernetes(t *testing.T, root, kubelet string) {
	t.Helper()
	if got := fileSum(t, filepath.Join(root, "usr/bin/kubelet")); got != kubelet {
		t.Errorf("the kubelet is %s, want %s", got, kubelet)
	}
	snapshots, err := filepath.Glob(filepath.Join(root, "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs"))
	if err != nil || len(snapshots) < 7 {
		t.Errorf("%d snapshots for 7 images: %v", len(snapshots), err)
	}
	if got := run(t, root, "cat", "/etc/kubernetes-version"); got != version {
		t.Errorf("the version file says %q", got)
	}
}

// saveImage makes an image archive as a release server has it: an OCI layout
// in a tar, the architecture in the name.
func saveImage(t *testing.T, in build.Inputs, name, program, to string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	_, err := oci.Build(t.Context(), oci.BuildOptions{
		Name: "registry.k8s.io/" + name + "-amd64:" + version, Arch: "amd64", Config: v1.ImageConfig{Entrypoint: []string{"/usr/local/bin/" + name}},
		Layers: []oci.Layer{{Files: []oci.File{{Path: "/usr/local/bin/" + name, Source: program, Mode: 0o755}}}}, Epoch: in.Lock.Epoch, Dir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func checksums(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path+".sha256", []byte(fileSum(t, path)), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
