// Package ivrd is the IVR daemon as a value: it runs the getIvrCommand dialogues
// of calls that sessiond hands to it, on legs that mediad holds, with audio that
// recordingd keeps.
package ivrd

import (
	"context"
	"errors"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/dialogue"
	"github.com/callmesh/callmesh/ivrd/internal/media"
	"github.com/callmesh/callmesh/ivrd/internal/phrase"
	"github.com/callmesh/callmesh/ivrd/internal/rpc"
	"github.com/callmesh/callmesh/ivrd/internal/session"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/registry"
	"github.com/callmesh/callmesh/kit/run"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

// Parts returns the daemon's parts in starting order.
func Parts(cfg Config, env daemon.Env) ([]run.Part, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if env.Redis == nil {
		return nil, errors.New("ivrd: redis is required, dialogues are kept there")
	}
	dialer := env.Dialer()
	sessiond, err := dialer.Service("sessiond")
	if err != nil {
		return nil, err
	}
	recordingd, err := dialer.Service("recordingd")
	if err != nil {
		return nil, err
	}

	legs := media.New(media.Options{
		Dialer: dialer, Controller: env.Instance, Log: env.Log, Patience: cfg.Timeouts.Patience,
	})
	phrases := phrase.New(phrase.Options{
		Prompts: recordingpb.NewPromptsClient(recordingd),
		Limits: phrase.Limits{
			CacheBytes: cfg.Audio.CacheBytes, FileBytes: cfg.Audio.MaxFileBytes, Fresh: cfg.Audio.Fresh,
			Connect: cfg.Timeouts.Connect, Fetch: cfg.Timeouts.Fetch,
		},
		Log: env.Log, Metrics: env.Metrics, Now: env.Now,
	})
	instances := registry.New(env.Redis, env.Log, registry.Options{Every: cfg.Takeover.Heartbeat, TTL: cfg.Takeover.Expiry})
	server := env.Server()
	dialogues := dialogue.New(dialogue.Options{
		Instance: env.Instance, Address: server.Address,
		Store:    cursor.NewStore(env.Redis),
		Sessions: session.New(sessiond, session.Timeouts{Ask: cfg.Timeouts.Ask, Tell: cfg.Timeouts.Patience}),
		Media:    legs, Phrases: phrases, Peers: instances, Forward: rpc.NewForwarder(dialer),
		Limits: dialogue.Limits{Dialogues: cfg.MaxDialogues, Sweep: cfg.Takeover.Sweep, Patience: cfg.Timeouts.Patience},
		Log:    env.Log, Metrics: env.Metrics, Now: env.Now,
	})
	server.Add(&ivrpb.Dialogues_ServiceDesc, rpc.NewDialogues(dialogues), rpc.Access())

	return []run.Part{
		{Name: "ivrd connections", Stop: dialer.Close},
		{Name: "ivrd audio", Stop: func(context.Context) error { phrases.Close(); return nil }},
		{Name: "ivrd legs", Stop: func(context.Context) error { legs.Close(); return nil }},
		server.Part(),
		{Name: "ivrd heartbeat", Serve: func(ctx context.Context) error {
			return instances.Announce(ctx, dialogue.ServiceName, env.Instance, server.Address(), dialogues.Load)
		}},
		// Stopped first: its dialogues end or move while all the rest still works.
		{Name: "ivrd dialogues", Serve: dialogues.Serve, Stop: dialogues.Drain},
	}, nil
}
