// Package edge is the HTTP side of the gateway: it takes a request to the REST
// family that its path belongs to, asks whose credential it carries, and lets
// the family's mux turn it into a call to a daemon. It decides nothing about
// calls.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/gateway/internal/auth"
	"github.com/callmesh/callmesh/gateway/internal/openapi"
	"github.com/callmesh/callmesh/kit/run"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// Limits bound what a client may take of us.
type Limits struct {
	HeaderBytes int
	BodyBytes   int64
	PromptBytes int64
	// HeaderTimeout and BodyTimeout bound how long a request may take to
	// arrive, WriteTimeout the answer; a prompt file, each of its pieces.
	HeaderTimeout, BodyTimeout, WriteTimeout, IdleTimeout time.Duration
}

// Options is what the server needs. All fields but PublicURL and Listener are
// required.
type Options struct {
	Listen   string
	Listener net.Listener
	// PublicURL is where clients reach us; nil = where their request went.
	PublicURL  *url.URL
	Limits     Limits
	Sessiond   *grpc.ClientConn
	Recordingd *grpc.ClientConn
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	Now        func() time.Time
}

// Server answers REST.
type Server struct {
	opts     Options
	doc      *openapi.Document
	media    *family
	calls    *family
	http     *http.Server
	listener net.Listener
	draining atomic.Bool
}

// New returns a server that does not listen yet.
func New(opts Options) (*Server, error) {
	doc, err := openapi.Load()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, doc: doc}
	keys := auth.New(directorypb.NewCredentialsClient(opts.Sessiond), opts.Now)
	if s.media, err = newMediaservice(opts, keys, doc); err != nil {
		return nil, err
	}
	if s.calls, err = newCloudonix(opts, keys, doc); err != nil {
		return nil, err
	}
	seen, err := newObserver(opts)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		// The span's name is set when the route is known: no path becomes one.
		Handler: otelhttp.NewHandler(seen.watch(http.HandlerFunc(s.dispatch)), "http",
			otelhttp.WithFilter(func(r *http.Request) bool { return r.URL.Path != "/healthz" })),
		ReadHeaderTimeout: opts.Limits.HeaderTimeout,
		ReadTimeout:       opts.Limits.BodyTimeout,
		WriteTimeout:      opts.Limits.WriteTimeout,
		IdleTimeout:       opts.Limits.IdleTimeout,
		MaxHeaderBytes:    opts.Limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(opts.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Part returns the server as a part of the daemon.
func (s *Server) Part() run.Part {
	return run.Part{Name: "rest", Start: s.listen, Serve: s.serve, Stop: s.drain}
}

func (s *Server) listen(ctx context.Context) error {
	s.listener = s.opts.Listener
	if s.listener == nil {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", s.opts.Listen)
		if err != nil {
			return fmt.Errorf("rest.listen: %w", err)
		}
		s.listener = l
	}
	s.opts.Log.InfoContext(ctx, "rest listening", "address", s.listener.Addr().String())
	return nil
}

func (s *Server) serve(context.Context) error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("rest: %w", err)
	}
	return nil
}

// patience is what running requests are given to end: a request takes
// milliseconds, and other parts of the daemon need their share of the grace.
const patience = 2 * time.Second

// drain reports not ready, lets running requests end, and closes the rest.
// Connections that never sent a request count as running for http.Server, so
// closing what is left is no failure.
func (s *Server) drain(ctx context.Context) error {
	s.draining.Store(true)
	s.http.SetKeepAlivesEnabled(false)
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.http.Shutdown(waiting); err != nil {
		s.opts.Log.InfoContext(ctx, "connections are closed that were still open", "err", err)
		return s.http.Close()
	}
	return nil
}
