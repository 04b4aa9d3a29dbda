// Package sessiond is the daemon that owns sessions: SIP signalling, the call's
// state, callbacks, the directory and the archive of ended sessions.
package sessiond

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/registry"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/kit/webhook"
	"github.com/callmesh/callmesh/sessiond/internal/application"
	"github.com/callmesh/callmesh/sessiond/internal/control"
	"github.com/callmesh/callmesh/sessiond/internal/dialogues"
	"github.com/callmesh/callmesh/sessiond/internal/directory"
	"github.com/callmesh/callmesh/sessiond/internal/keys"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/media"
	"github.com/callmesh/callmesh/sessiond/internal/peers"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/store/journal"
	"github.com/callmesh/callmesh/sessiond/internal/tag"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// directoryEvery is how soon a change of the directory takes effect.
const directoryEvery = time.Second

// reapEvery is how often the sessions of dead instances are looked for.
const reapEvery = 2 * time.Second

// Parts returns sessiond as parts of a process.
func Parts(cfg Config, env daemon.Env) ([]run.Part, error) {
	s, err := build(cfg, env)
	if err != nil {
		return nil, err
	}
	return []run.Part{ // started top down, stopped bottom up
		{Name: "peers", Stop: s.dialer.Close},
		s.archive.close(),
		{Name: "directory", Start: s.loadDirectory, Serve: func(ctx context.Context) error {
			return s.directory.Follow(ctx, directoryEvery, env.Log)
		}},
		{Name: "leases", Serve: s.leases.Run},
		s.archive.part(),
		{Name: "callbacks", Serve: s.lanes.Run, Stop: func(context.Context) error { s.hooks.Close(); return nil }},
		{Name: "journal files", Stop: func(context.Context) error { return s.journal.Close() }},
		{Name: "journal", Serve: s.journal.Run},
		{Name: "media servers", Serve: s.media.Serve},
		s.server.Part(),
		{Name: "heartbeat", Serve: func(ctx context.Context) error {
			return s.registry.Announce(ctx, env.Service, env.Instance, s.server.Address(), s.load)
		}},
		{Name: "reaper", Serve: s.reaper.Serve},
		{
			Name:  "sip",
			Start: s.listen,
			Serve: s.phone.Serve, Stop: s.phone.Close,
		},
		// Stopped first: new calls are refused and live ones end, while SIP, gRPC
		// and the callbacks still serve them.
		{Name: "calls", Stop: func(ctx context.Context) error {
			s.phone.Drain()
			return s.control.Drain(ctx)
		}},
	}, nil
}

// sessiond holds what Parts wires together.
type sessiond struct {
	cfg       Config
	env       daemon.Env
	keys      *keys.Set
	registry  *registry.Registry
	dialer    *grpckit.Dialer
	directory *directory.Directory
	domains   *directory.Store
	leases    *lease.Leases
	lanes     *lane.Deliverer
	hooks     *webhook.Client
	store     *store.Store
	journal   *journal.Store
	archive   *archiving
	media     *media.Pool
	control   *control.Control
	phone     *ua.UA
	peers     *peers.Peers
	reaper    *peers.Reaper
	server    *grpckit.Server
}

func build(cfg Config, env daemon.Env) (*sessiond, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &sessiond{cfg: cfg, env: env, dialer: env.Dialer(), server: env.Server()}
	for _, step := range []func() error{s.buildState, s.buildCallbacks, s.buildCalls, s.buildServices} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// buildState makes what remembers: directory, leases, lanes, store, archive.
func (s *sessiond) buildState() (err error) {
	if s.keys, err = keys.Derive([]byte(s.cfg.Secret)); err != nil {
		return err
	}
	s.registry = registry.New(s.env.Redis, s.env.Log, registry.Options{})
	s.domains = directory.NewStore(s.env.Redis)
	s.directory = directory.New(s.domains)
	s.leases = lease.New(s.env.Redis, s.env.Instance, s.env.Log, lease.Options{Peers: func(ctx context.Context) (int, error) {
		list, err := s.registry.List(ctx, s.env.Service)
		return max(len(list), 1), err
	}})
	return nil
}

// buildCallbacks makes the way to customers' applications. The deliverer sends
// by the application client, and that waits for the deliverer's lanes.
func (s *sessiond) buildCallbacks() (err error) {
	if s.hooks, err = webhook.New(s.env.Log, s.env.Metrics, webhook.Options{}); err != nil {
		return err
	}
	var client *application.Client
	s.lanes, err = lane.NewDeliverer(s.env.Redis, s.env.Log, s.env.Metrics, lane.Options{
		Send:   func(ctx context.Context, d lane.Delivery) error { return client.Send(ctx, d) },
		Leases: s.leases,
	})
	if err != nil {
		return err
	}
	client = application.New(s.hooks, s.keys, s.directory, s.lanes)
	if s.store, err = store.New(s.env.Redis, store.Options{CallSecret: s.keys.Partition, Lanes: s.lanes, Log: s.env.Log}); err != nil {
		return err
	}
	s.archive = &archiving{url: s.cfg.Archive.URL, env: s.env, sessions: s.store, leases: s.leases}
	s.journal, err = journal.Open(s.store, s.env.Log, s.env.Metrics, journal.Options{
		Dir: s.cfg.Journal.Dir, Instance: s.env.Instance, Archived: s.archive.has,
	})
	if err != nil {
		return err
	}
	return s.buildControl(client)
}

func (s *sessiond) buildControl(app control.Application) (err error) {
	listener := &events{}
	s.media = media.New(media.Options{
		Instances: s.registry, Dialer: s.dialer, Controller: s.env.Instance, Listener: listener, Log: s.env.Log,
		RTPTimeout: s.cfg.Calls.RTPTimeout,
	})
	s.control, err = control.New(control.Deps{
		Instance: s.env.Instance, Store: s.journal, Directory: s.directory, Media: s.media, Dialogues: dialogues.New(s.dialer),
		Application: app, Reply: reply.NewSigner(s.keys.Reply, s.env.Now), PartitionKey: s.keys.Partition,
		Server: s.node(), Log: s.env.Log, Metrics: s.env.Metrics, Now: s.env.Now, Limit: s.cfg.Calls.Limit,
	})
	listener.Control = s.control
	return err
}

// events lets the media pool be made before the control that hears of it.
type events struct{ *control.Control }

// node is the address by which callbacks name this node.
func (s *sessiond) node() string {
	if s.cfg.SIP.Advertise != "" {
		return s.cfg.SIP.Advertise
	}
	for _, l := range s.cfg.SIP.Listen {
		if len(l) > 4 {
			if at, err := netip.ParseAddrPort(l[4:]); err == nil {
				return at.Addr().String()
			}
		}
	}
	return ""
}

// buildCalls makes the phone and the ties between instances.
func (s *sessiond) buildCalls() error {
	tags, err := tag.NewSealer(s.keys.Tag)
	if err != nil {
		return err
	}
	s.peers = peers.New(s.env.Instance, s.registry, s.dialer, s.store)
	s.phone, err = ua.New(ua.Config{
		Instance: s.env.Instance, Advertise: s.cfg.SIP.Advertise, UserAgent: "callmesh", SourceRate: s.cfg.SIP.SourceRate,
		T1: s.cfg.Calls.AckWait / 64,
	}, ua.Deps{
		Calls: s.control, Tags: tags, Index: callIndex{s.store}, Forward: s.peers.Forward, Log: s.env.Log, Metrics: s.env.Metrics,
	})
	if err != nil {
		return err
	}
	s.control.Connect(s.phone)
	s.reaper = &peers.Reaper{Peers: s.peers, Sessions: s.store, Adopter: s.control, Log: s.env.Log, Every: reapEvery}
	return nil
}

// listen binds the SIP addresses, and says which: port 0 asks for any.
func (s *sessiond) listen(ctx context.Context) error {
	if err := s.phone.Listen(ctx, s.cfg.SIP.Listen...); err != nil {
		return err
	}
	for _, transport := range []string{"udp", "tcp"} {
		for _, at := range s.phone.Addrs(transport) {
			s.env.Log.InfoContext(ctx, "listening", "protocol", "sip", "transport", transport, "address", at.String())
			if s.cfg.SIP.Bound != nil {
				s.cfg.SIP.Bound(transport, at.String())
			}
		}
	}
	return nil
}

func (s *sessiond) load() registry.Load { return registry.Load{Active: s.control.Active()} }

// loadDirectory writes the configured domains, and reads the whole directory.
func (s *sessiond) loadDirectory(ctx context.Context) error {
	domains, err := directory.Read(s.cfg.Domains, s.keys)
	if err != nil {
		return err
	}
	if err := s.domains.Replace(ctx, domains...); err != nil {
		return fmt.Errorf("domains: %w", err)
	}
	return s.directory.Refresh(ctx)
}
