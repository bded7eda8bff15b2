package disk

import (
	"bytes"
	"io"
	"io/fs"
	"os"

	"imagebuilder.dev/internal/fault"
)

// ESPFile is a file of the EFI system partition.
type ESPFile struct {
	Path    string // on the ESP, e.g. EFI/BOOT/BOOTX64.EFI
	From    string // file in the rootfs, e.g. /usr/lib/shim/shimx64.efi.signed; "" when Content is given
	Content []byte
}

// SignedESP returns the ESP of Debian and its kin on amd64: the signed shim
// and GRUB as the packages shim-signed and grub-efi-amd64-signed ship them.
// The vendor is the folder below EFI that the signed GRUB looks in, e.g. debian.
//
// EFI/<vendor> is what grub-install makes, so that it finds its own on the node.
// EFI/BOOT is what firmware starts that has no boot entries yet, as that of a
// new virtual machine: shim, GRUB and MokManager, and on purpose not shim's
// fallback loader. That would write boot entries and, where there is a TPM,
// reset the machine, on the first boot of every clone; without it shim starts
// the GRUB beside it, everywhere. GRUB looks for its configuration in
// EFI/<vendor> in either case.
func SignedESP(vendor string, root UUID) []ESPFile {
	const shim, grub = "/usr/lib/shim/", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	own := "EFI/" + vendor + "/"
	return []ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", From: shim + "shimx64.efi.signed"},
		{Path: "EFI/BOOT/grubx64.efi", From: grub},
		{Path: "EFI/BOOT/mmx64.efi", From: shim + "mmx64.efi.signed"},
		{Path: own + "BOOTX64.CSV", From: shim + "BOOTX64.CSV"},
		{Path: own + "fbx64.efi", From: shim + "fbx64.efi.signed"},
		{Path: own + "grub.cfg", Content: []byte(ESPConfig(root))},
		{Path: own + "grubx64.efi", From: grub},
		{Path: own + "mmx64.efi", From: shim + "mmx64.efi.signed"},
		{Path: own + "shimx64.efi", From: shim + "shimx64.efi.signed"},
	}
}

// openESP resolves the files of an ESP. Paths of the rootfs are looked up
// inside it: a link in it cannot lead to a file of the host.
func openESP(rootfs string, list []ESPFile) ([]File, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files := make([]File, 0, len(list))
	for _, e := range list {
		content := e.Content
		if e.From != "" {
			if content, err = fs.ReadFile(root.FS(), e.From[1:]); err != nil {
				return nil, fault.New(fault.Input, "read %s of the rootfs for the EFI system partition: %w", e.From, err)
			}
		}
		files = append(files, Content(e.Path, content))
	}
	return files, nil
}

// Content returns a File that holds data.
func Content(path string, data []byte) File {
	return File{Path: path, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}
