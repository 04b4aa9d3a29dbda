package baresip

import (
	"context"
	"testing"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
)

func TestBetweenBaresipAndThePhone(t *testing.T) {
	t.Parallel()
	p, err := phone.New(phone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := Dial(ctx, t.TempDir(), p.URI(), 600)
	must(err)
	c, err := p.Accept(ctx)
	must(err)
	must(c.Answer(ctx))
	c.Audio.Say(1000)
	must(b.Says(ctx, "Call established"))
	must(c.Audio.Hear(ctx, 600))
	must(b.Press('5'))
	must(b.Says(ctx, "send DTMF digit end"))
	must(c.Hangup(ctx))
	must(b.Says(ctx, "session closed"))
	heard, err := b.Quit()
	must(err)
	if length := phone.ToneLength(heard, 1000); length < 200*time.Millisecond {
		t.Errorf("baresip heard the tone for %v", length)
	}
	if c.Audio.Keys() != "5" {
		t.Errorf("keys %q", c.Audio.Keys())
	}
}
