package dialogue

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/media"
	"github.com/callmesh/callmesh/ivrd/internal/phrase"
)

// dialogue carries out the effects of one cycle. It has a goroutine only while
// there is something to do: while a step plays, mediad does the waiting.
type dialogue struct {
	service *Service
	log     *slog.Logger
	// ctx ends when the dialogue is stopped or given away.
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	cursor  cursor.Cursor
	queue   []arrival
	release func() // ends the leg's events
	// idle is closed when no goroutine works on the dialogue; nil at rest.
	idle chan struct{}
	// over: nothing more will be asked, told or saved.
	over bool
	// paused: events wait for resume.
	paused bool
	// leaving: to be given to another instance as soon as it is at rest.
	leaving bool
	abort   abort
	missing *time.Timer

	// audio of the step about to run; only the working goroutine touches it.
	audio phrase.Resolution
}

// arrival is an event and its place among the leg's events.
type arrival struct {
	event    cycle.Event
	sequence uint64
}

// abort ends the effect that is being carried out, because of an event that
// waits behind it.
type abort struct {
	cancel context.CancelFunc
	// interruptible: an interrupt is such an event. A question is not taken back.
	interruptible bool
}

// maxQueue is far above what can wait at a time: one result, one answer, one
// interrupt, one end.
const maxQueue = 32

func (d *dialogue) leg() media.Leg {
	// Cursor.Dialogue never changes, so that no lock is needed.
	return media.Leg{Address: d.cursor.Dialogue.MediaAddress, ID: d.cursor.Dialogue.Leg, Grant: d.cursor.Dialogue.Grant}
}

// post hands over an event and returns at once; false says that it was not
// taken.
func (d *dialogue) post(ev cycle.Event, sequence uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || len(d.queue) >= maxQueue {
		return false
	}
	d.queue = append(d.queue, arrival{ev, sequence})
	if d.abort.cancel != nil && urgent(ev, d.abort.interruptible) {
		d.abort.cancel()
	}
	return d.paused || d.wake()
}

// resume lets a dialogue that was taken over go on. Resumed comes before the
// events that have arrived since: it is about the state as it was saved.
func (d *dialogue) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || !d.paused {
		return
	}
	d.paused = false
	d.queue = slices.Insert(d.queue, 0, arrival{event: cycle.Resumed{}})
	d.wake()
}

// wake sees to it that somebody works on the queue; the caller holds the lock.
func (d *dialogue) wake() bool {
	if d.idle != nil {
		return true
	}
	if !d.service.spawn(d.work) {
		return false
	}
	d.idle = make(chan struct{})
	return true
}

func urgent(ev cycle.Event, interruptible bool) bool {
	switch ev := ev.(type) {
	case cycle.Failed:
		return true
	case cycle.Revoked:
		return ev.StepID == ""
	case cycle.Interrupted:
		return interruptible
	}
	return false
}

// work takes events until none is left.
func (d *dialogue) work() {
	for {
		next, ok := d.take()
		if !ok {
			return
		}
		d.apply(next)
	}
}

func (d *dialogue) take() (arrival, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || len(d.queue) == 0 {
		close(d.idle)
		d.idle = nil
		if d.leaving && !d.over {
			d.service.spawn(func() { d.service.giveAway(d) })
		}
		return arrival{}, false
	}
	next := d.queue[0]
	d.queue = d.queue[1:]
	return next, true
}

func (d *dialogue) apply(a arrival) {
	d.mu.Lock()
	state, effects := d.cursor.State.Apply(a.event, d.service.now())
	d.cursor.State = state
	d.cursor.Sequence = max(d.cursor.Sequence, a.sequence)
	now := d.cursor
	d.mu.Unlock()

	if mustSave(a.event, effects) && !d.save(now) {
		return
	}
	for _, effect := range effects {
		if d.ctx.Err() != nil {
			return
		}
		d.do(now, effect)
	}
}

// mustSave: before anything is done that others see, it is written down. Fetching
// phrases is not: an instance that takes over asks under the same command id.
func mustSave(ev cycle.Event, effects []cycle.Effect) bool {
	switch ev.(type) {
	case cycle.Started, cycle.Resumed:
		return false // it stands as it was saved
	}
	for _, effect := range effects {
		switch effect.(type) {
		case cycle.Ask, cycle.Run, cycle.End:
			return true
		}
	}
	return false
}

// save reports whether the dialogue is still this instance's. A store that
// cannot be reached does not end a call: it goes on from memory.
func (d *dialogue) save(now cursor.Cursor) bool {
	if d.service.storeIsAway() {
		return true
	}
	ctx, cancel := context.WithTimeout(d.ctx, saveTimeout)
	defer cancel()
	err := d.service.store.Save(ctx, now)
	switch {
	case err == nil:
		return true
	case errors.Is(err, cursor.ErrEpoch), errors.Is(err, cursor.ErrNone):
		d.log.InfoContext(d.ctx, "dialogue goes on at another instance")
		d.quit()
		d.service.remove(d)
		return false
	case d.ctx.Err() != nil:
		return false
	}
	d.log.WarnContext(d.ctx, "dialogue not saved, it goes on from memory", "err", err)
	d.service.storeFailed()
	return true
}

// quit ends all work on the dialogue. It waits for nothing.
func (d *dialogue) quit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.quitLocked()
}

func (d *dialogue) quitLocked() {
	if d.over {
		return
	}
	d.over = true
	d.cancel()
	d.queue = nil
	if d.missing != nil {
		d.missing.Stop()
	}
	d.release()
}

// rest waits until no goroutine works on the dialogue.
func (d *dialogue) rest(ctx context.Context) error {
	d.mu.Lock()
	idle := d.idle
	d.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// state returns where the dialogue stands.
func (d *dialogue) state() cycle.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursor.State
}

// abortable returns the context of an effect that urgent events end.
func (d *dialogue) abortable(interruptible bool) (context.Context, func()) {
	ctx, cancel := context.WithCancel(d.ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.abort = abort{cancel: cancel, interruptible: interruptible}
	for _, waiting := range d.queue {
		if urgent(waiting.event, interruptible) {
			cancel()
		}
	}
	return ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.abort = abort{}
		cancel()
	}
}
