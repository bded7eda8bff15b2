package deb

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// diversion is an entry of dpkg's diversions file.
type diversion struct{ to, by string }

// readDiversions reads /var/lib/dpkg/diversions: three lines an entry.
func readDiversions(root string) (map[string]diversion, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := r.ReadFile(adminDir + "/diversions")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	out := map[string]diversion{}
	for ; len(lines) >= 3; lines = lines[3:] {
		by := lines[2]
		if by == ":" {
			by = ""
		}
		out[lines[0]] = diversion{to: lines[1], by: by}
	}
	return out, nil
}
