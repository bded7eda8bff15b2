package format

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// queuePerWorker is how many clusters are under way for each worker.
const queuePerWorker = 3

// cluster is a piece of a disk on its way from the source to the image.
type cluster struct {
	index  int64
	zero   bool
	raw    []byte // always of the cluster's size
	packed []byte // compressed; empty when that would not be shorter
	err    error
	done   chan struct{} // receives once when the above is set
}

// pipeline reads and compresses clusters on several goroutines and hands them
// on in order.
type pipeline struct {
	src     Source
	extents []Extent
	options Options // checked
}

// run calls consume with every cluster that has data, ascending. The cluster is
// valid during the call only.
func (p *pipeline) run(ctx context.Context, consume func(*cluster) error) error {
	n := queuePerWorker * p.options.Workers
	free, work, order := make(chan *cluster, n), make(chan *cluster, n), make(chan *cluster, n)
	for range n {
		free <- &cluster{raw: make([]byte, p.options.ClusterSize), done: make(chan struct{}, 1)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return p.produce(ctx, free, work, order)
	})
	for range p.options.Workers {
		g.Go(func() error { return p.work(work) })
	}
	g.Go(func() error {
		for c := range order {
			select {
			case <-c.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if c.err != nil {
				return c.err
			}
			if err := consume(c); err != nil {
				return err
			}
			free <- c
		}
		return nil
	})
	return g.Wait()
}

// produce takes free clusters into work. The channels hold all clusters there
// are, so only free can block.
func (p *pipeline) produce(ctx context.Context, free <-chan *cluster, work, order chan<- *cluster) (err error) {
	blocks(p.extents, int64(p.options.ClusterSize), func(i int64) bool {
		if err = context.Cause(ctx); err != nil {
			return false
		}
		select {
		case c := <-free:
			c.index = i
			work <- c
			order <- c
			return true
		case <-ctx.Done():
			err = context.Cause(ctx)
			return false
		}
	})
	return err
}

func (p *pipeline) work(work <-chan *cluster) error {
	z, err := p.options.newCompressor()
	if err != nil {
		return err
	}
	for c := range work {
		p.load(c, z)
		c.done <- struct{}{}
	}
	return nil
}

func (p *pipeline) load(c *cluster, z compressor) {
	off := c.index * int64(len(c.raw))
	c.packed = c.packed[:0]
	if c.err = readBlock(p.src, c.raw, off); c.err != nil {
		c.err = fmt.Errorf("read disk at offset %d: %w", off, c.err)
		return
	}
	if c.zero = isZero(c.raw); c.zero || z == nil {
		return
	}
	if c.packed = z.compress(c.packed, c.raw); len(c.packed) >= len(c.raw) {
		c.packed = c.packed[:0]
	}
}
