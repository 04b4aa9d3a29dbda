// Package run gives every daemon the same life: parts start in order, serve
// together, and stop in reverse order within one grace period.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Part is one piece of a daemon that has a life of its own: a listener, a
// sweeper, a connection pool. Any of its funcs may be nil.
type Part struct {
	Name string
	// Start returns once the part is ready.
	Start func(ctx context.Context) error
	// Serve blocks until its ctx ends, which is after Stop; an error it returns
	// brings the daemon down.
	Serve func(ctx context.Context) error
	// Stop drains; its ctx ends when the grace period does.
	Stop func(ctx context.Context) error
}

// All runs parts until ctx ends or one of them fails. It returns nil after a
// clean stop, and otherwise the first failure joined with what stopping the
// rest turned up. ready, if not nil, is called once all parts have started.
func All(ctx context.Context, log *slog.Logger, grace time.Duration, ready func(), parts ...Part) error {
	failed := make(chan error, len(parts))
	started, cause := start(ctx, log, failed, parts)
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
	for _, s := range slices.Backward(started) {
		if err := s.stop(draining); err != nil {
			cause = errors.Join(cause, fmt.Errorf("stop %s: %w", s.Name, err))
		}
	}
	return cause
}

// serving is a part that has started.
type serving struct {
	Part
	halt context.CancelFunc
	done chan struct{}
}

func start(ctx context.Context, log *slog.Logger, failed chan<- error, parts []Part) (started []serving, err error) {
	for _, p := range parts {
		if p.Start != nil {
			if err := p.Start(ctx); err != nil {
				return started, fmt.Errorf("start %s: %w", p.Name, err)
			}
		}
		started = append(started, p.serve(ctx, failed))
		log.DebugContext(ctx, "part started", "part", p.Name)
	}
	return started, nil
}

// serve lets the part serve. That outlives ctx on purpose: calls in progress
// go on while the parts that were started later drain.
func (p Part) serve(ctx context.Context, failed chan<- error) serving {
	ctx, halt := context.WithCancel(context.WithoutCancel(ctx))
	s := serving{Part: p, halt: halt, done: make(chan struct{})}
	if p.Serve == nil {
		close(s.done)
		return s
	}
	go func() {
		defer close(s.done)
		if err := p.Serve(ctx); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("serve %s: %w", p.Name, err)
		}
	}()
	return s
}

// stop drains the part, and then ends its serving, before the parts that it
// stands on are stopped.
func (s serving) stop(ctx context.Context) (err error) {
	if s.Stop != nil {
		err = s.Stop(ctx)
	}
	s.halt()
	<-s.done
	return err
}
