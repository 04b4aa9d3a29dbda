// Command bench measures callmesh as a whole on this machine and prints the
// table of docs/benchmarks.md: calls answered, prompted and completed; prompts
// played at once; what a call and a packet cost; session GETs. callmesh runs on
// one core, everything else (SIPp, the application, Redis, the sink) on the other.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := bench(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	only := flag.String("only", "", "run `one` alone: calls, prompts, bargein or gets")
	rates := flag.String("rates", "100,200,400,600", "calls per second to offer")
	streams := flag.String("streams", "500,1000,1500,2000", "prompts to play at once")
	length := flag.Duration("length", 10*time.Second, "how long each step lasts")
	flag.Parse()

	if err := pin(0); err != nil {
		return err
	}
	b, err := start(ctx)
	if err != nil {
		return err
	}
	defer b.stop()
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"calls", func(ctx context.Context) error { return b.calls(ctx, *rates, *length) }},
		{"prompts", func(ctx context.Context) error { return b.prompts(ctx, *streams, *length) }},
		{"bargein", b.bargeIn},
		{"gets", func(ctx context.Context) error { return b.gets(ctx, *length) }},
	}
	for _, s := range steps {
		if *only != "" && *only != s.name {
			continue
		}
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
