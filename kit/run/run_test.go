package run

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"
)

func TestPartsStartInOrderAndStopInReverse(t *testing.T) {
	var order []string
	part := func(name string) Part {
		return Part{
			Name:  name,
			Start: func(context.Context) error { order = append(order, "start "+name); return nil },
			Stop:  func(context.Context) error { order = append(order, "stop "+name); return nil },
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := All(ctx, slog.New(slog.DiscardHandler), time.Second, cancel, part("a"), part("b")); err != nil {
		t.Fatal(err)
	}
	want := []string{"start a", "start b", "stop b", "stop a"}
	if !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestAFailingPartBringsTheOthersDown(t *testing.T) {
	broken := errors.New("port in use")
	stopped := false
	first := Part{
		Name:  "first",
		Serve: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		Stop:  func(context.Context) error { stopped = true; return nil },
	}
	for name, second := range map[string]Part{
		"at start":      {Name: "second", Start: func(context.Context) error { return broken }},
		"while serving": {Name: "second", Serve: func(context.Context) error { return broken }},
	} {
		t.Run(name, func(t *testing.T) {
			stopped = false
			err := All(t.Context(), slog.New(slog.DiscardHandler), time.Second, nil, first, second)
			if !errors.Is(err, broken) || !stopped {
				t.Errorf("err %v, first stopped: %v", err, stopped)
			}
		})
	}
}
