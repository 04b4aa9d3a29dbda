// Package flight does the same work once for all who ask for it at the same
// time. The work outlives any one of them: it ends by its own deadline or with
// the group.
package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Group shares work by key.
type Group[V any] struct {
	timeout time.Duration
	base    context.Context
	cancel  context.CancelFunc

	mu     sync.Mutex
	calls  map[string]*call[V]
	closed bool
	wg     sync.WaitGroup
}

type call[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("flight: closed")

// NewGroup returns a group whose work takes at most timeout each.
func NewGroup[V any](timeout time.Duration) *Group[V] {
	base, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the life of the whole, which Close ends
	return &Group[V]{timeout: timeout, base: base, cancel: cancel, calls: map[string]*call[V]{}}
}

// Do returns the result of work for the key, or ctx's error if that comes first.
func (g *Group[V]) Do(ctx context.Context, key string, work func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	c := g.calls[key]
	if c == nil {
		if g.closed {
			g.mu.Unlock()
			var zero V
			return zero, ErrClosed
		}
		c = &call[V]{done: make(chan struct{})}
		g.calls[key] = c
		g.wg.Go(func() { g.run(key, c, work) })
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
	}
}

func (g *Group[V]) run(key string, c *call[V], work func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(g.base, g.timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			// Customers' files pass through here: one of them must not end all calls.
			c.err = fmt.Errorf("flight: panic: %v", r)
		}
		g.mu.Lock()
		delete(g.calls, key)
		g.mu.Unlock()
		close(c.done)
	}()
	c.value, c.err = work(ctx)
}

// Close cancels what runs and waits for it.
func (g *Group[V]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
}
