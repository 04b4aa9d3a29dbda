// Package watch brings the events of legs to their controllers. Each leg
// counts its events and keeps the last of them, so that a controller whose
// stream broke goes on where it was. A watcher that does not keep up is cut
// off rather than waited for.
package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// Kept is how many events of a leg can be read again.
	Kept = 64
	// queueSize is how far a watcher may be behind.
	queueSize = 1024
	// maxControllers of one leg: its sessiond, an ivrd, and successors of both.
	maxControllers = 4
)

// Errors that end a watch.
var (
	ErrSlow   = errors.New("the watcher fell behind")
	ErrClosed = errors.New("this instance is going down")
)

// Identity labels a leg's events.
type Identity struct {
	Leg, Session, Participant string
}

// Event of a leg. Body is the hub's user's.
type Event struct {
	Identity
	// Sequence counts the leg's events from 1.
	Sequence uint64
	Body     any
}

// Hub holds the event logs of all legs of an instance.
type Hub struct {
	now func() time.Time

	mu       sync.Mutex
	closed   bool
	emptied  chan struct{} // closed when the last log goes, for whoever waits
	logs     map[string]*log
	watchers map[string]map[*Watcher]struct{} // by controller
}

type log struct {
	identity    Identity
	sequence    uint64
	kept        []Event
	controllers []string // the first one created the leg
	attended    time.Time
}

// Watcher is one stream of a controller.
type Watcher struct {
	hub        *Hub
	controller string
	backlog    []Event
	queue      chan Event
	done       chan struct{}
	err        error // set before done is closed
}

// NewHub makes a hub without legs.
func NewHub(now func() time.Time) *Hub {
	return &Hub{now: now, logs: map[string]*log{}, watchers: map[string]map[*Watcher]struct{}{}}
}

// Add begins a leg's log under its first controller.
func (h *Hub) Add(id Identity, controller string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs[id.Leg] = &log{identity: id, controllers: []string{controller}, attended: h.now()}
}

// Remove ends a leg's log.
func (h *Hub) Remove(leg string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.logs, leg)
	if len(h.logs) == 0 && h.emptied != nil {
		close(h.emptied)
		h.emptied = nil
	}
}

// Settle waits until all legs have told their last, or ctx ends.
func (h *Hub) Settle(ctx context.Context) {
	h.mu.Lock()
	if len(h.logs) == 0 {
		h.mu.Unlock()
		return
	}
	if h.emptied == nil {
		h.emptied = make(chan struct{})
	}
	emptied := h.emptied
	h.mu.Unlock()
	select {
	case <-emptied:
	case <-ctx.Done():
	}
}

// Attach lets a further controller have the leg's events. What it has not
// seen of those kept is sent to its running watches.
func (h *Hub) Attach(leg, controller string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.logs[leg]
	if !ok || !l.attach(controller) {
		return
	}
	for w := range h.watchers[controller] {
		for _, e := range l.kept {
			h.send(w, e)
		}
	}
}

// attach is false when the controller already holds the leg.
func (l *log) attach(controller string) bool {
	if slices.Contains(l.controllers, controller) {
		return false
	}
	if len(l.controllers) == maxControllers {
		// The creator stays; of the others the one longest attached goes.
		l.controllers = slices.Delete(l.controllers, 1, 2)
	}
	l.controllers = append(l.controllers, controller)
	return true
}

// Publish numbers an event and sends it to whoever watches. It never blocks
// on a watcher.
func (h *Hub) Publish(leg string, body any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.logs[leg]
	if !ok {
		return
	}
	l.sequence++
	e := Event{Identity: l.identity, Sequence: l.sequence, Body: body}
	if len(l.kept) == Kept {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, e)
	for _, c := range l.controllers {
		for w := range h.watchers[c] {
			h.send(w, e)
		}
	}
}

func (h *Hub) send(w *Watcher, e Event) {
	select {
	case w.queue <- e:
	default:
		h.end(w, ErrSlow)
	}
}

// end takes a watcher out; the leg's clock of unattended time starts.
func (h *Hub) end(w *Watcher, err error) {
	if _, ok := h.watchers[w.controller][w]; !ok {
		return
	}
	h.note()
	delete(h.watchers[w.controller], w)
	if len(h.watchers[w.controller]) == 0 {
		delete(h.watchers, w.controller)
	}
	w.err = err
	close(w.done)
}

// note which legs are attended now.
func (h *Hub) note() {
	now := h.now()
	for _, l := range h.logs {
		if slices.ContainsFunc(l.controllers, func(c string) bool { return len(h.watchers[c]) > 0 }) {
			l.attended = now
		}
	}
}

// Watch streams the events of all legs that the controller holds, behind the
// sequence numbers seen; a leg without one from its oldest event kept. Legs
// named in seen are attached. It returns those that are not here.
func (h *Hub) Watch(controller string, seen map[string]uint64) (w *Watcher, unknown []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, ErrClosed
	}
	w = &Watcher{hub: h, controller: controller, queue: make(chan Event, queueSize), done: make(chan struct{})}
	for leg := range seen {
		if l, ok := h.logs[leg]; ok {
			l.attach(controller)
		} else {
			unknown = append(unknown, leg)
		}
	}
	slices.Sort(unknown)
	for id, l := range h.logs {
		if !slices.Contains(l.controllers, controller) {
			continue
		}
		for _, e := range l.kept {
			if e.Sequence > seen[id] {
				w.backlog = append(w.backlog, e)
			}
		}
	}
	if h.watchers[controller] == nil {
		h.watchers[controller] = map[*Watcher]struct{}{}
	}
	h.watchers[controller][w] = struct{}{}
	return w, unknown, nil
}

// Backlog is what happened before the watch began, to be sent first.
func (w *Watcher) Backlog() []Event { return w.backlog }

// Events that happen from then on.
func (w *Watcher) Events() <-chan Event { return w.queue }

// Done is closed when the hub ends the watch; Err says why. Events may still
// be queued then.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Err is valid after Done.
func (w *Watcher) Err() error { return w.err }

// Close ends the watch from the watcher's side.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.end(w, nil)
}

// Unattended returns the legs that none of their controllers has watched for
// longer than patience.
func (h *Hub) Unattended(patience time.Duration) (legs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note()
	now := h.now()
	for id, l := range h.logs {
		if now.Sub(l.attended) > patience {
			legs = append(legs, id)
		}
	}
	return legs
}

// Close ends all watches.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, ws := range h.watchers {
		for w := range ws {
			h.end(w, ErrClosed)
		}
	}
}
