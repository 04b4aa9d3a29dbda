package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/kit/telemetry"
)

// Operations serves /metrics, /healthz, /readyz and /debug/pprof to operators.
type Operations struct {
	// Listen is the host:port; empty = not served.
	Listen  string
	Metrics *prometheus.Registry

	ready    atomic.Bool
	listener net.Listener
	server   *http.Server
}

// Ready makes /readyz answer 200, until Stop.
func (o *Operations) Ready() { o.ready.Store(true) }

// Part returns the listener as a part of the daemon.
func (o *Operations) Part() run.Part {
	if o.Listen == "" {
		return run.Part{Name: "operations (off)"}
	}
	return run.Part{Name: "operations", Start: o.start, Serve: o.serve, Stop: o.stop}
}

func (o *Operations) start(context.Context) error {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	o.listener = l
	o.server = &http.Server{Handler: o.handler(), ReadHeaderTimeout: 5 * time.Second}
	return nil
}

func (o *Operations) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", telemetry.Metrics(o.Metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !o.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (o *Operations) serve(context.Context) error {
	if err := o.server.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (o *Operations) stop(ctx context.Context) error {
	o.ready.Store(false)
	return o.server.Shutdown(ctx)
}
