// Package mediad is the media daemon: RTP in, RTP out, 20 ms at a time. It
// holds legs, plays prompts, collects digits, and is commanded by gRPC
// (callmesh.media.v1).
package mediad

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/registry"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/control"
	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/metrics"
	"github.com/callmesh/callmesh/mediad/internal/ports"
	"github.com/callmesh/callmesh/mediad/internal/rpc"
	"github.com/callmesh/callmesh/mediad/internal/shard"
	"github.com/callmesh/callmesh/mediad/internal/watch"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// Service is mediad's name in the mesh and the registry.
const Service = "mediad"

// Parts makes a mediad. Its address and load are announced in the registry of
// env.Redis; without Redis nobody is told.
func Parts(cfg Config, env daemon.Env) ([]run.Part, error) {
	c, err := cfg.check()
	if err != nil {
		return nil, err
	}
	epoch := time.Now()
	codecs := codec.NewRegistry(codec.NewPCMU(), codec.NewPCMA())
	hub := watch.NewHub(env.Now)
	allocator := ports.New(c.ports, c.Reserve, c.Quarantine, env.Now)
	clips := clip.NewStore(c.ClipBudget, codecs)
	figures := metrics.New(env.Metrics)
	shards, err := newShards(c.Shards, epoch, figures, hub)
	if err != nil {
		return nil, err
	}
	media := control.New(control.Options{
		Shards: shards, Ports: allocator, Clips: clips, Codecs: codecs, Hub: hub, Log: env.Log,
		IPv4: c.ipv4, IPv6: c.ipv6, Relatch: c.Relatch, RTPTimeout: c.RTPTimeout, Unlatched: c.Unlatched, Unattended: c.Unattended, Epoch: epoch,
	})
	figures.Watch(metrics.Sources{Legs: media.Load, FreePorts: allocator.Free, Clips: clips.Bytes})

	env.Log.Info("media engine", "engine", c.Engine, "shards", c.Shards, "ports", c.Ports)

	server := env.Server().Add(&mediapb.Media_ServiceDesc, rpc.New(media, c.MaxClip), rpc.Access())
	parts := []run.Part{shardsPart(shards), server.Part()}
	if env.Redis != nil {
		parts = append(parts, announcePart(env, server, media, allocator))
	}
	// Last to start, so first to stop: legs are drained while sessiond can
	// still reach us to close them.
	return append(parts, legsPart(media, hub)), nil
}

func newShards(n int, epoch time.Time, figures shard.Metrics, hub *watch.Hub) ([]*shard.Shard, error) {
	now := func() time.Duration { return time.Since(epoch) }
	shards := make([]*shard.Shard, n)
	for i := range shards {
		e, err := engine.NewPortable()
		if err != nil {
			return nil, fmt.Errorf("media engine: %w", err)
		}
		shards[i] = shard.New(e, now, figures, rpc.Publish(hub))
	}
	return shards, nil
}

func shardsPart(shards []*shard.Shard) run.Part {
	return run.Part{Name: "media shards", Serve: func(ctx context.Context) error {
		var wg sync.WaitGroup
		errs := make([]error, len(shards))
		for i, s := range shards {
			wg.Go(func() { errs[i] = s.Serve(ctx) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}}
}

func announcePart(env daemon.Env, server *grpckit.Server, media *control.Media, allocator *ports.Allocator) run.Part {
	reg := registry.New(env.Redis, env.Log, registry.Options{})
	return run.Part{Name: "announce", Serve: func(ctx context.Context) error {
		return reg.Announce(ctx, Service, env.Instance, server.Address(), func() registry.Load {
			return registry.Load{Active: media.Load(), Capacity: allocator.Pairs(), Draining: media.Draining()}
		})
	}}
}

func legsPart(media *control.Media, hub *watch.Hub) run.Part {
	return run.Part{
		Name:  "legs",
		Start: media.Check,
		Serve: media.Reap,
		Stop: func(ctx context.Context) error {
			defer hub.Close()
			draining, cancel := context.WithDeadline(ctx, lastCall(ctx))
			defer cancel()
			err := media.Drain(draining)
			// The last events are on their way from the shards to the watches.
			hub.Settle(ctx)
			return err
		},
	}
}

// lastCall is when legs are cut off: early enough before the end of the grace
// period that their controllers still hear of it.
func lastCall(ctx context.Context) time.Time {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(time.Minute)
	}
	return end.Add(-min(time.Until(end)/2, time.Second))
}
