// Package grpckit gives every daemon the same gRPC server and clients: who may
// call what, deadlines, faults, traces, health. Daemons cannot differ by
// accident.
package grpckit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/run"
)

// Options is what a server needs. All fields but the last two are required.
type Options struct {
	// Service is the daemon's name: "sessiond", ….
	Service string
	Mesh    mesh.Mesh
	Signer  *principal.Signer
	Log     *slog.Logger
	// Reflection shows the services to grpcurl; off in production.
	Reflection bool
	// Creds are the transport credentials; none = plain.
	Creds []grpc.ServerOption
}

// Server is one daemon's gRPC server.
type Server struct {
	opts     Options
	grpc     *grpc.Server
	health   *health.Server
	access   map[string]Access
	listener net.Listener
	address  string
	err      error
	draining atomic.Bool
}

// maxMessage bounds what one message may hold; prompts travel in chunks.
const maxMessage = 4 << 20

// NewServer returns a server without services.
func NewServer(opts Options) *Server {
	s := &Server{opts: opts, health: health.NewServer(), access: map[string]Access{}}
	s.grpc = grpc.NewServer(append(slices.Clone(opts.Creds),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		// Clients re-resolve when a connection ends, and so find new pods.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: 10 * time.Minute, MaxConnectionAgeGrace: time.Hour,
			Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	)...)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	for _, method := range []string{"Check", "List", "Watch"} {
		s.access["/grpc.health.v1.Health/"+method] = anyone()
	}
	if opts.Reflection {
		reflection.Register(s.grpc)
		s.access["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] = anyone()
		s.access["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"] = anyone()
	}
	return s
}

// Add registers a service. Every method must have its Access under its short
// name; one that is forgotten, or named but unknown, fails Listen.
func (s *Server) Add(desc *grpc.ServiceDesc, impl any, access map[string]Access) *Server {
	named := make(map[string]bool)
	add := func(method string) {
		named[method] = true
		a, ok := access[method]
		if !ok {
			s.err = errors.Join(s.err, fmt.Errorf("grpckit: %s/%s: nobody is named who may call it", desc.ServiceName, method))
		}
		s.access["/"+desc.ServiceName+"/"+method] = a
	}
	for _, m := range desc.Methods {
		add(m.MethodName)
	}
	for _, m := range desc.Streams {
		add(m.StreamName)
	}
	for method := range access {
		if !named[method] {
			s.err = errors.Join(s.err, fmt.Errorf("grpckit: %s has no method %s", desc.ServiceName, method))
		}
	}
	s.grpc.RegisterService(desc, impl)
	return s
}

// Listen binds the service's address.
func (s *Server) Listen(context.Context) error {
	if s.err != nil {
		return s.err
	}
	l, address, err := s.opts.Mesh.Listen(s.opts.Service)
	if err != nil {
		return err
	}
	s.listener, s.address = l, address
	return nil
}

// Address is where peers reach this instance; known after Listen.
func (s *Server) Address() string { return s.address }

// Serve answers until Drain.
func (s *Server) Serve(context.Context) error {
	err := s.grpc.Serve(s.listener)
	if s.draining.Load() {
		return nil
	}
	return err
}

// Drain reports not ready, lets running requests end, and closes the rest when
// ctx does.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	// Watches last as long as their watchers: they get a moment, not the whole
	// grace period.
	patience, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-done:
	case <-patience.Done():
		s.grpc.Stop()
		<-done
	}
	return nil
}

// Part returns the server as a part of its daemon: what starts after it knows
// its Address.
func (s *Server) Part() run.Part {
	return run.Part{Name: s.opts.Service + " grpc", Start: s.Listen, Serve: s.Serve, Stop: s.Drain}
}
