// Package daemon is what the five daemons have in common: what each is handed,
// and the main function that loads a config, starts the parts and drains them.
package daemon

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
)

// Env is what a daemon is handed besides its own Config. One process may hold
// several: nothing in it is global.
type Env struct {
	// Service is the daemon's name: "mediad", ….
	Service string
	// Instance is unique among all instances that ever ran: a restarted daemon
	// is another instance, so that what the dead one owned can be told apart.
	Instance string
	Mesh     mesh.Mesh
	// Creds are the transport credentials of the gRPC server; none in memory.
	Creds   []grpc.ServerOption
	Signer  *principal.Signer
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Redis is nil for daemons that keep no state there.
	Redis redis.UniversalClient
	// Reflection shows the gRPC services to explorers; off in production.
	Reflection bool
	// Now is the clock; time.Now but in tests.
	Now func() time.Time
}

// Server returns the daemon's gRPC server, still without services.
func (e Env) Server() *grpckit.Server {
	return grpckit.NewServer(grpckit.Options{
		Service: e.Service, Mesh: e.Mesh, Signer: e.Signer, Log: e.Log, Reflection: e.Reflection, Creds: e.Creds,
	})
}

// Dialer returns the daemon's way to its peers; closing it is a part of its own.
func (e Env) Dialer() *grpckit.Dialer { return grpckit.NewDialer(e.Mesh, e.Signer, e.Service) }
