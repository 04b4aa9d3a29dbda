package allinone

import (
	"context"
	"fmt"
	"log/slog"
	"net"
)

// Running is an all-in-one that serves.
type Running struct {
	sip  map[string]string
	rest string
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// Start runs the all-in-one and returns once it serves. Ports may be 0.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Running, error) {
	listener, err := net.Listen("tcp", cfg.REST.Listen)
	if err != nil {
		return nil, fmt.Errorf("rest.listen: %w", err)
	}
	cfg.REST.Listener = listener
	r := &Running{sip: map[string]string{}, rest: "http://" + listener.Addr().String(), done: make(chan struct{})}
	cfg.SIP.Bound = func(transport, address string) {
		if r.sip[transport] == "" { // the first one configured
			r.sip[transport] = address
		}
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	ready := make(chan struct{})
	go func() {
		defer close(r.done)
		r.err = Run(running, cfg, log, func() { close(ready) })
	}()
	select {
	case <-ready:
		return r, nil
	case <-r.done:
		stop()
		_ = listener.Close() // Run may have failed before it took the listener
		return nil, r.err
	case <-ctx.Done():
		stop()
		<-r.done
		return nil, ctx.Err()
	}
}

// SIP returns host:port for "udp" or "tcp".
func (r *Running) SIP(transport string) string { return r.sip[transport] }

// REST returns the base URL of the gateway.
func (r *Running) REST() string { return r.rest }

// Done is closed when it has stopped, by itself or by Stop.
func (r *Running) Done() <-chan struct{} { return r.done }

// Stop drains and stops, and returns what went wrong.
func (r *Running) Stop() error {
	r.stop()
	<-r.done
	return r.err
}
