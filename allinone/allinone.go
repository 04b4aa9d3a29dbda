// Package allinone is the five daemons in one process. They talk gRPC over
// memory, so interceptors, deadlines and errors are those of a cluster.
package allinone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/redisx"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/kit/telemetry"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/recordingd"
	"github.com/callmesh/callmesh/sessiond"
)

// Run runs the five daemons until ctx ends. ready, if not nil, is called once
// everything serves.
func Run(ctx context.Context, cfg Config, log *slog.Logger, ready func()) error {
	if cfg.Secret == "" {
		if !strings.HasPrefix(cfg.Redis.URL, "embedded:") {
			return errors.New("secret: is missing; what is in Redis cannot be read again without it")
		}
		cfg.Secret = secret()
	}
	flush, err := telemetry.Traces(ctx, cfg.Telemetry, "callmesh")
	if err != nil {
		return err
	}
	defer func() { _ = flush(context.WithoutCancel(ctx)) }() // a lost span is no failure
	rdb, closeRedis, err := redisx.Open(ctx, cfg.Redis.URL)
	if err != nil {
		return err
	}
	metrics := telemetry.Registry()
	ops := &daemon.Operations{Listen: cfg.Ops.Listen, Metrics: metrics}
	parts := []run.Part{
		{Name: "redis", Stop: func(context.Context) error { return closeRedis() }},
		ops.Part(),
	}
	signer, err := principal.NewSigner([]byte(secret()), time.Now)
	if err != nil {
		return errors.Join(err, closeRedis())
	}
	m := &mesh.Memory{}
	for _, d := range daemons(cfg) {
		more, err := d.parts(daemon.Env{
			Service: d.service, Instance: daemon.Instance(d.service), Mesh: m, Signer: signer,
			Log: log.With("daemon", d.service), Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"daemon": d.service}, metrics),
			Redis: rdb, Reflection: true, Now: time.Now,
		})
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", d.service, err), closeRedis())
		}
		parts = append(parts, more...)
	}
	return run.All(ctx, log, cfg.Grace, func() {
		ops.Ready()
		if ready != nil {
			ready()
		}
	}, parts...)
}

type member struct {
	service string
	parts   func(daemon.Env) ([]run.Part, error)
}

// daemons are in the order in which they start: what is asked comes before who
// asks. They stop in reverse, so that calls drain while all of it still serves.
func daemons(cfg Config) []member {
	return []member{
		{"recordingd", func(e daemon.Env) ([]run.Part, error) { return recordingd.Parts(cfg.Recording, e) }},
		{"mediad", func(e daemon.Env) ([]run.Part, error) { return mediad.Parts(cfg.Media, e) }},
		{"ivrd", func(e daemon.Env) ([]run.Part, error) { return ivrd.Parts(cfg.IVR, e) }},
		{"gateway", func(e daemon.Env) ([]run.Part, error) { return gateway.Parts(cfg.REST, e) }},
		{"sessiond", func(e daemon.Env) ([]run.Part, error) { return sessiond.Parts(cfg.Config, e) }},
	}
}
