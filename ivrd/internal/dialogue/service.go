// Package dialogue runs IVR dialogues: it carries out what their cycles ask for,
// keeps their cursors, and takes over those of instances that died.
package dialogue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/media"
	"github.com/callmesh/callmesh/ivrd/internal/phrase"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/registry"
)

// Sessions is what a dialogue asks and tells sessiond; see package session for
// the errors.
type Sessions interface {
	Ask(ctx context.Context, d cursor.Dialogue, commandID string, q cycle.Question) ([]byte, error)
	Alarm(ctx context.Context, d cursor.Dialogue, a cycle.Alarm) error
	End(ctx context.Context, d cursor.Dialogue, e cycle.End) error
}

// Phrases turns a command's phrases into audio. Its only error is ctx's.
type Phrases interface {
	Resolve(ctx context.Context, domain string, allowPrivate bool, cmd command.Command) (phrase.Resolution, error)
}

// Peers are the other instances of this service.
type Peers interface {
	// List returns all live instances, this one among them.
	List(ctx context.Context, service string) ([]registry.Instance, error)
}

// Forwarder passes a request on to the instance in charge.
type Forwarder interface {
	Stop(ctx context.Context, address string, d cursor.Dialogue) error
	Interrupt(ctx context.Context, address string, d cursor.Dialogue, commandID string) error
}

// Options is what the service needs; all fields are required.
type Options struct {
	// Instance is this one, Address where it is reached once it listens.
	Instance string
	Address  func() string
	Store    *cursor.Store
	Sessions Sessions
	Media    *media.Client
	Phrases  Phrases
	Peers    Peers
	Forward  Forwarder
	Limits   Limits
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Now      func() time.Time
}

// Limits bound the service.
type Limits struct {
	// Dialogues that one instance runs at most.
	Dialogues int
	// Sweep is how often dead instances are looked for.
	Sweep time.Duration
	// Patience is how long sessiond may be out of reach.
	Patience time.Duration
}

// ServiceName is the name under which instances find each other.
const ServiceName = "ivrd"

// Service runs the dialogues of one instance.
type Service struct {
	instance string
	address  func() string
	store    *cursor.Store
	sessions Sessions
	media    *media.Client
	phrases  Phrases
	peers    Peers
	forward  Forwarder
	limits   Limits
	log      *slog.Logger
	metrics  metrics
	now      func() time.Time

	base   context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// awayUntil is when the store is worth trying again, in Unix nanoseconds.
	awayUntil atomic.Int64

	mu        sync.Mutex
	stopped   bool
	dialogues map[uuid.UUID]*dialogue
	// starting has a channel for each start that is under way, closed when it is
	// done: what comes for the dialogue meanwhile must not find nothing.
	starting map[uuid.UUID]chan struct{}
	draining bool
	empty    chan struct{} // closed when draining and no dialogue is left
	// unended are cursors whose end could not be written.
	unended map[uuid.UUID]cursor.Cursor
}

// New returns a service without dialogues.
func New(o Options) *Service {
	base, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the life of the service, which Drain ends
	s := &Service{
		instance: o.Instance, address: o.Address, store: o.Store, sessions: o.Sessions, media: o.Media,
		phrases: o.Phrases, peers: o.Peers, forward: o.Forward, limits: o.Limits, log: o.Log, now: o.Now,
		base: base, cancel: cancel,
		dialogues: map[uuid.UUID]*dialogue{}, starting: map[uuid.UUID]chan struct{}{}, empty: make(chan struct{}), unended: map[uuid.UUID]cursor.Cursor{},
	}
	s.metrics = newMetrics(o.Metrics, s)
	return s
}

// Start begins a dialogue and returns the address of the instance in charge,
// which is another one when the same start went there before. first, unless nil,
// is carried out before the application is asked.
func (s *Service) Start(ctx context.Context, d cursor.Dialogue, first *command.Command) (address string, err error) {
	id, err := partition.ParseID(d.Participant)
	if err != nil {
		return "", fault.New(fault.BadRequest, "participant_id is not a UUID").On("participant_id")
	}
	d.Trace = traceParent(ctx)
	started, err := s.reserve(ctx, id)
	if err != nil {
		return "", err
	}
	defer started()
	return s.begin(ctx, id, d, first)
}

func (s *Service) begin(ctx context.Context, id uuid.UUID, d cursor.Dialogue, first *command.Command) (address string, err error) {
	state := cycle.Begin(d.Grant)
	if first != nil {
		state = cycle.BeginWith(d.Grant, *first)
	}
	c, fresh, err := s.store.Begin(ctx, cursor.Cursor{
		Dialogue: d, State: state, Owner: s.instance, Address: s.address(),
	})
	switch {
	case errors.Is(err, cursor.ErrGrant):
		return "", fault.New(fault.StaleGrant, "the leg has been granted anew").On("grant")
	case err != nil:
		return "", fault.New(fault.Unavailable, "dialogues cannot be started now").Because(err)
	case !fresh:
		return c.Address, nil
	}
	begun := s.adopt(id, c, false)
	begun.log.InfoContext(ctx, "dialogue started", "participant", d.Participant, "leg", d.Leg)
	begun.post(cycle.Started{}, 0)
	return s.address(), nil
}

// adopt makes a dialogue of a cursor that this instance owns. One of an older
// grant on the same leg is over. A paused dialogue lets its events wait for resume.
func (s *Service) adopt(id uuid.UUID, c cursor.Cursor, paused bool) *dialogue {
	ctx, cancel := context.WithCancel(withTrace(s.base, c.Dialogue.Trace))
	d := &dialogue{
		service: s, ctx: ctx, cancel: cancel, cursor: c, release: func() {}, paused: paused,
		log: s.log.With("session", c.Dialogue.Session),
	}
	s.mu.Lock()
	former := s.dialogues[id]
	s.dialogues[id] = d
	s.mu.Unlock()
	if former != nil {
		former.quit()
	}
	release := s.media.Hold(d.leg(), c.Sequence, func(ev cycle.Event, sequence uint64) { d.post(ev, sequence) })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release = release
	if d.over {
		release()
	}
	return d
}

// Stop ends a dialogue and returns when nothing more of it will be asked or told.
// forwarded says that another instance passed the request on.
func (s *Service) Stop(ctx context.Context, participant string, forwarded bool) error {
	d, c, err := s.locate(ctx, participant, forwarded)
	switch {
	case errors.Is(err, cursor.ErrNone):
		return nil
	case err != nil:
		return err
	case d == nil:
		return s.forward.Stop(ctx, c.Address, c.Dialogue)
	}
	d.quit()
	if err := d.rest(ctx); err != nil {
		return fault.New(fault.Timeout, "the dialogue is still ending").Because(err)
	}
	d.mu.Lock()
	last := d.cursor
	d.mu.Unlock()
	d.log.InfoContext(ctx, "dialogue stopped", "participant", participant)
	s.forget(d, last)
	return nil
}

// Interrupt stops the command, so that the next is asked for.
func (s *Service) Interrupt(ctx context.Context, participant, commandID string, forwarded bool) error {
	notRunning := fault.New(fault.CommandNotRunning, "the command does not run any more").On("command_id")
	d, c, err := s.locate(ctx, participant, forwarded)
	switch {
	case errors.Is(err, cursor.ErrNone):
		return notRunning
	case err != nil:
		return err
	case d == nil:
		return s.forward.Interrupt(ctx, c.Address, c.Dialogue, commandID)
	case !d.state().Interruptible(commandID) || !d.post(cycle.Interrupted{CommandID: commandID}, 0):
		return notRunning
	}
	return nil
}

// remove drops a dialogue from memory.
func (s *Service) remove(d *dialogue) {
	id, err := partition.ParseID(d.cursor.Dialogue.Participant)
	if err != nil {
		return // it would not have been started
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialogues[id] == d {
		delete(s.dialogues, id)
	}
	if s.draining && len(s.dialogues) == 0 {
		s.closeEmpty()
	}
}

func (s *Service) closeEmpty() {
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// forget ends the cursor of a dialogue that is over. A store that is away is
// told later.
func (s *Service) forget(d *dialogue, last cursor.Cursor) {
	defer s.remove(d)
	ctx, cancel := context.WithTimeout(s.base, saveTimeout)
	defer cancel()
	err := s.store.End(ctx, last)
	if err == nil || errors.Is(err, cursor.ErrEpoch) || errors.Is(err, cursor.ErrNone) {
		return
	}
	d.log.WarnContext(ctx, "end of the dialogue not saved yet", "err", err)
	id, err := partition.ParseID(last.Dialogue.Participant)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unended) < s.limits.Dialogues {
		s.unended[id] = last
	}
}

// spawn runs f under the service's care; false says that the service has stopped.
func (s *Service) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.wg.Go(f)
	return true
}

// storeIsAway spares calls the wait for a store that has just failed.
func (s *Service) storeIsAway() bool { return s.now().UnixNano() < s.awayUntil.Load() }

func (s *Service) storeFailed() { s.awayUntil.Store(s.now().Add(awayFor).UnixNano()) }

// active is the number of dialogues.
func (s *Service) active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dialogues)
}

// Load is what this instance says about itself to those who choose one.
func (s *Service) Load() registry.Load {
	s.mu.Lock()
	defer s.mu.Unlock()
	return registry.Load{Active: len(s.dialogues), Capacity: s.limits.Dialogues, Draining: s.draining}
}
