package deb

import (
	"errors"
	"os"
	"sync"
)

// errLater stops unpacking a package that is to be unpacked again in its turn.
var errLater = errors.New("disputed")

// claims says which package may write which path while many are unpacked at
// once. A path that two packages want is disputed: what stands there is left to
// an ordered second pass.
type claims struct {
	mu       sync.Mutex
	files    map[string]int  // host path -> the last package that has a file or link there
	named    map[string]bool // host paths that packages have as folders
	before   map[string]bool // of links: something stood there before
	disputed map[string]bool // host paths
	ordered  bool            // packages come one after another now
}

func newClaims() claims {
	return claims{files: map[string]int{}, named: map[string]bool{}, before: map[string]bool{}, disputed: map[string]bool{}}
}

// claim notes that package i has a file or link at host and says whether it
// may write it now.
func (c *claims) claim(host string, i int, link bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, taken := c.files[host]
	if taken && o != i || c.named[host] {
		c.disputed[host] = true
	}
	if link && !taken && !c.named[host] {
		if _, err := os.Lstat(host); err == nil {
			c.before[host] = true
		}
	}
	c.files[host] = max(o, i)
	return c.ordered || !c.disputed[host]
}

// claimFolder notes that package i has a folder at host. It says no when
// another has a link there: whether the folder's files belong behind the link
// depends on the order.
func (c *claims) claimFolder(host string, i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.named[host] {
		if _, err := os.Lstat(host); err == nil && !c.taken(host) {
			c.before[host] = true
		}
	}
	c.named[host] = true
	if c.taken(host) {
		c.disputed[host] = true
	}
	return c.ordered || !c.taken(host)
}

func (c *claims) taken(host string) bool { _, ok := c.files[host]; return ok }

// settled reports whether nobody disputes what stands at host.
func (c *claims) settled(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ordered || !c.disputed[host]
}
