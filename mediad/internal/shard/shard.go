// Package shard drives legs. A shard is one loop, locked to a thread, that
// owns its legs: it takes a batch of datagrams, hands each to its leg, applies
// commands, runs the ticks that are due and sends one batch. Ticks of
// different legs are spread over the 20 ms in phases. Nothing in the loop
// blocks, allocates or logs; what legs have to tell leaves by a queue that
// another goroutine empties.
package shard

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
)

// Engine moves the shard's datagrams; see package engine for the contract.
type Engine interface {
	Open(addr netip.Addr, port uint16) (engine.Endpoint, error)
	Attach(packet.Flow, engine.Endpoint) error
	Detach(packet.Flow)
	Receive(wait time.Duration) []packet.Datagram
	Send([]packet.Datagram) int
	Wake()
	Close() error
}

const (
	// phases spread the ticks: every 2 ms a tenth of the legs.
	phases = 10
	// phaseStep is the distance between phases.
	phaseStep = leg.Tick / phases
	// batchSize is how many datagrams are sent at once.
	batchSize = 128
	// perTick bounds what one leg may write in a tick: media and RTCP.
	perTick = 2
	// commandQueue bounds the commands that wait; further ones wait outside.
	commandQueue = 256
	// maxLate is how far ticks may fall behind before some are skipped: a
	// burst of older audio would only fill the far end's jitter buffer.
	maxLate = 3 * leg.Tick
	// idleWait is the longest sleep of a shard without legs.
	idleWait = time.Second
)

// ErrClosed says that the shard has ended.
var ErrClosed = errors.New("media shard is closed")

// Shard owns the legs that were added to it.
type Shard struct {
	engine  Engine
	now     func() time.Duration
	metrics Metrics
	publish func(*leg.Event)

	commands chan *command
	applied  []*command
	closed   chan struct{}

	legs   []slot // by flow
	free   []packet.Flow
	phases [phases][]*leg.Leg
	step   int64 // next phase to run, counted from time 0
	out    *packet.Batch

	counters leg.Counters
	told     leg.Counters // what the metrics know already
	outbox   outbox
}

type slot struct {
	leg   *leg.Leg
	phase int
}

// New makes a shard. now is a monotonic clock; publish is called with each
// event, in order, from one goroutine that is not the loop.
func New(e Engine, now func() time.Duration, metrics Metrics, publish func(*leg.Event)) *Shard {
	s := &Shard{
		engine: e, now: now, metrics: metrics, publish: publish,
		commands: make(chan *command, commandQueue), closed: make(chan struct{}),
		applied: make([]*command, 0, commandQueue),
		out:     packet.NewBatch(batchSize),
	}
	s.outbox.init()
	return s
}

// Serve runs the loop until ctx ends.
func (s *Shard) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.outbox.deliver(s.closed, s.publish) })
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		s.engine.Wake()
	})

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.step = int64(s.now()/phaseStep) + 1
	for ctx.Err() == nil {
		s.turn(s.engine.Receive(s.untilDue()))
	}
	close(s.closed)
	wg.Wait()
	if !stop() {
		<-woken
	}
	return s.engine.Close()
}

// turn is one round of the loop.
func (s *Shard) turn(arrived []packet.Datagram) {
	now := s.now()
	if len(s.free) == len(s.legs) {
		s.step = int64(now/phaseStep) + 1 // nobody was there to be late for
	}
	for i := range arrived {
		// A datagram of a flow that was freed meanwhile belongs to nobody.
		if l := s.legs[arrived[i].Flow].leg; l != nil {
			l.Receive(now, &arrived[i])
		}
	}
	s.applyCommands()
	s.tick()
	s.flush()
	s.acknowledge()
	s.report()
	s.outbox.flush()
}

// due is the time of a phase.
func due(step int64) time.Duration { return time.Duration(step) * phaseStep }

// untilDue is how long the loop may sleep: to the next phase that has legs.
func (s *Shard) untilDue() time.Duration {
	if len(s.commands) > 0 {
		return 0
	}
	for i := range int64(phases) {
		if len(s.phases[(s.step+i)%phases]) > 0 {
			return max(0, due(s.step+i)-s.now())
		}
	}
	return idleWait
}

// tick runs the phases that are due.
func (s *Shard) tick() {
	now := s.now()
	if late := now - due(s.step); late > maxLate {
		s.skip(int64(late / leg.Tick))
	}
	for ; due(s.step) <= now; s.step++ {
		legs := s.phases[s.step%phases]
		if len(legs) == 0 {
			continue
		}
		s.metrics.Lateness(now - due(s.step))
		for _, l := range legs {
			if s.out.Room() < perTick {
				s.flush()
			}
			l.Tick(now, s.out)
		}
		now = s.now()
	}
}

// skip passes whole periods that the machine did not let us keep.
func (s *Shard) skip(periods int64) {
	s.step += periods * phases
	for i := range s.legs {
		if l := s.legs[i].leg; l != nil {
			l.Skip(int(periods))
		}
	}
	s.metrics.Skipped(int(periods))
}

func (s *Shard) flush() {
	batch := s.out.Datagrams()
	if len(batch) == 0 {
		return
	}
	if sent := s.engine.Send(batch); sent < len(batch) {
		s.counters.Dropped[leg.DropUnsent] += uint64(len(batch) - sent)
	}
	s.out.Reset()
}

// report passes on what has changed since the last round.
func (s *Shard) report() {
	if s.counters != s.told {
		s.metrics.Count(&s.told, &s.counters)
		s.told = s.counters
	}
}

// Emit queues a leg's event; called on the loop.
func (s *Shard) Emit(e *leg.Event) { s.outbox.add(e) }

// Open binds ports for a leg of this shard. Not on the loop.
func (s *Shard) Open(addr netip.Addr, port uint16) (engine.Endpoint, error) {
	return s.engine.Open(addr, port)
}
