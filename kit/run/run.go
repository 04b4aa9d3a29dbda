// Package run gives every daemon the same life: parts start in order, serve
// together, and stop in reverse order within one grace period.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Part is one piece of a daemon that has a life of its own: a listener, a
// sweeper, a connection pool. Any of its funcs may be nil.
type Part struct {
	Name string
	// Start returns once the part is ready.
	Start func(ctx context.Context) error
	// Serve blocks; an error it returns brings the daemon down.
	Serve func(ctx context.Context) error
	// Stop drains; its ctx ends when the grace period does.
	Stop func(ctx context.Context) error
}

// All runs parts until ctx ends or one of them fails. It returns nil after a
// clean stop, and otherwise the first failure joined with what stopping the
// rest turned up. ready, if not nil, is called once all parts have started.
func All(ctx context.Context, log *slog.Logger, grace time.Duration, ready func(), parts ...Part) error {
	var (
		wg      sync.WaitGroup
		failed  = make(chan error, len(parts))
		started []Part
		cause   error
	)
	// Serving outlives ctx on purpose: calls in progress finish while Stop drains.
	serving, halt := context.WithCancel(context.WithoutCancel(ctx))
	defer halt()

	for _, p := range parts {
		if p.Start != nil {
			if err := p.Start(ctx); err != nil {
				cause = fmt.Errorf("start %s: %w", p.Name, err)
				break
			}
		}
		started = append(started, p)
		if p.Serve != nil {
			wg.Go(func() {
				if err := p.Serve(serving); err != nil && serving.Err() == nil {
					failed <- fmt.Errorf("serve %s: %w", p.Name, err)
				}
			})
		}
		log.DebugContext(ctx, "part started", "part", p.Name)
	}

	if cause == nil {
		if ready != nil {
			ready()
		}
		select {
		case <-ctx.Done():
		case cause = <-failed:
		}
	}

	draining, done := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer done()
	for _, p := range slices.Backward(started) {
		if p.Stop == nil {
			continue
		}
		if err := p.Stop(draining); err != nil {
			cause = errors.Join(cause, fmt.Errorf("stop %s: %w", p.Name, err))
		}
	}
	halt()
	wg.Wait()
	return cause
}
