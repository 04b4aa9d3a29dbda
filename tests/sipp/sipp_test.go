package sipp

import (
	"context"
	"testing"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
)

// The scenarios hold a correct user agent to be correct: our test phone, as
// the called side, passes those that need no refusal.
func TestAgainstThePhone(t *testing.T) {
	for name, serve := range map[string]func(context.Context, *testing.T, *phone.Phone){
		"ivr":       serveIVR,
		"lateoffer": serveLateOffer,
		"cancel":    serveCancel,
		"hold":      serveUntilBye,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := phone.New(phone.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			t.Cleanup(cancel)
			done := make(chan error, 1)
			go func() { done <- Run(ctx, name, "1000", p.Addr(), Options{Dir: t.TempDir()}) }()
			serve(ctx, t, p)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func accept(ctx context.Context, t *testing.T, p *phone.Phone) *phone.Call {
	t.Helper()
	c, err := p.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(ctx context.Context, t *testing.T, c *phone.Call) {
	t.Helper()
	if err := c.Answer(ctx); err != nil {
		t.Error(err)
	}
}

func serveIVR(ctx context.Context, t *testing.T, p *phone.Phone) {
	t.Helper()
	c := accept(ctx, t, p)
	answer(ctx, t, c)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.Audio.Keys() != "1" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("keys %q, %+v", c.Audio.Keys(), c.Audio.Statistics())
		}
	}
	if err := c.Hangup(ctx); err != nil {
		t.Error(err)
	}
}

func serveLateOffer(ctx context.Context, t *testing.T, p *phone.Phone) {
	t.Helper()
	c := accept(ctx, t, p)
	answer(ctx, t, c)
	if err := c.Hangup(ctx); err != nil {
		t.Error(err)
	}
}

func serveCancel(ctx context.Context, t *testing.T, p *phone.Phone) {
	t.Helper()
	if err := accept(ctx, t, p).Cancelled(ctx); err != nil {
		t.Error(err)
	}
}

func serveUntilBye(ctx context.Context, t *testing.T, p *phone.Phone) {
	t.Helper()
	c := accept(ctx, t, p)
	answer(ctx, t, c)
	if _, err := c.Ended(ctx); err != nil {
		t.Error(err)
	}
}
