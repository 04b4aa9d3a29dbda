package media

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// watch is the stream of one mediad's events to this ivrd.
type watch struct {
	client  *Client
	address string

	mu   sync.Mutex
	legs map[string]*held
	// wanted counts requests to name legs in the stream; inForce is the one that
	// the open stream has met, 0 while there is none.
	wanted, inForce uint64
	// changed is closed and replaced when inForce changes.
	changed chan struct{}
	restart context.CancelFunc
}

// held is a leg that a dialogue here plays to.
type held struct {
	after uint64
	sink  Sink
}

const (
	// linger is how long a stream stays open without legs: the next call on the
	// same mediad then finds it.
	linger     = 30 * time.Second
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

var errRestart = errors.New("media: the stream is to name more legs")

// Hold begins delivering the leg's events after the sequence number to sink, and
// sees to it that a stream is open. The function that it returns ends that,
// unless another has held the leg since.
func (c *Client) Hold(leg Leg, after uint64, sink Sink) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() {}
	}
	w := c.watches[leg.Address]
	if w == nil {
		w = &watch{client: c, address: leg.Address, legs: map[string]*held{}, wanted: 1, changed: make(chan struct{})}
		c.watches[leg.Address] = w
		c.wg.Go(func() { w.serve(c.base) })
	}
	h := &held{after: after, sink: sink}
	w.mu.Lock()
	defer w.mu.Unlock()
	if former := w.legs[leg.ID]; former != nil {
		h.after = max(h.after, former.after)
	}
	w.legs[leg.ID] = h
	return func() { c.release(w, leg.ID, h) }
}

func (c *Client) release(w *watch, leg string, h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.legs[leg] != h {
		return
	}
	delete(w.legs, leg)
	if len(w.legs) == 0 {
		time.AfterFunc(linger, func() { c.closeIdle(w) })
	}
}

// closeIdle ends a stream that still has no legs.
func (c *Client) closeIdle(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.legs) > 0 || c.watches[w.address] != w {
		return
	}
	delete(c.watches, w.address)
	// Instances come and go; a connection to each that ever was would add up.
	c.opts.Dialer.Forget(w.address)
	if w.restart != nil {
		w.restart()
	}
}

// Attach names all legs held at the address to mediad anew, so that legs of a
// dead controller become this one's, and waits until that is in force.
func (c *Client) Attach(ctx context.Context, address string) error {
	w := c.watch(address)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	w.wanted++
	want := w.wanted
	if w.restart != nil {
		w.restart()
	}
	w.mu.Unlock()
	return w.wait(ctx, want)
}

// ready waits until the stream is open: a step that ends at once must not
// outrun its listener.
func (c *Client) ready(ctx context.Context, address string) error {
	w := c.watch(address)
	if w == nil {
		return ErrGone
	}
	return w.wait(ctx, 1)
}

func (c *Client) watch(address string) *watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches[address]
}

func (w *watch) wait(ctx context.Context, want uint64) error {
	for {
		w.mu.Lock()
		met, changed := w.inForce >= want, w.changed
		w.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watch) setInForce(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inForce != n {
		w.inForce = n
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// serve keeps the stream open until the client closes or no leg needs it.
func (w *watch) serve(ctx context.Context) {
	var since time.Time // when the instance was first out of reach
	backoff := backoffMin
	for {
		opened, err := w.stream(ctx)
		w.setInForce(0)
		if ctx.Err() != nil || w.client.watch(w.address) != w {
			return
		}
		switch {
		case errors.Is(err, errRestart):
			continue
		case opened:
			since, backoff = time.Time{}, backoffMin
		}
		if since.IsZero() {
			since = time.Now()
			w.client.opts.Log.WarnContext(ctx, "mediad's events cannot be received; trying again", "address", w.address, "err", err)
		}
		if time.Since(since) > w.client.opts.Patience {
			w.lose("mediad cannot be reached")
			w.client.opts.Dialer.Forget(w.address)
			since = time.Time{}
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
			backoff = min(2*backoff, backoffMax)
		case <-ctx.Done():
			return
		}
	}
}

// stream opens the stream and delivers events until it breaks. opened tells
// whether it had been in force.
func (w *watch) stream(base context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(base)
	defer cancel(nil)
	req, meets := w.request(func() { cancel(errRestart) })
	defer w.forgetRestart()

	api, err := w.client.at(w.address)
	if err != nil {
		return false, err
	}
	stream, err := api.Watch(ctx, req)
	for err == nil {
		var ev *mediapb.WatchResponse
		if ev, err = stream.Recv(); err != nil {
			break
		}
		if ready := ev.GetReady(); ready != nil {
			opened = true
			w.setInForce(meets)
			for _, leg := range ready.GetUnknownLegs() {
				w.deliver(leg, lost("mediad does not hold the leg"), 0)
			}
			continue
		}
		if event := fromProto(ev); event != nil {
			w.deliver(ev.GetLegId(), event, ev.GetSequence())
		} else {
			w.pass(ev.GetLegId(), ev.GetSequence())
		}
	}
	if errors.Is(context.Cause(ctx), errRestart) {
		return opened, errRestart
	}
	return opened, err
}

// request names the legs held, and which Attach it meets.
func (w *watch) request(restart func()) (*mediapb.WatchRequest, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restart = restart
	req := &mediapb.WatchRequest{Controller: w.client.opts.Controller}
	for id, h := range w.legs {
		req.Cursors = append(req.Cursors, &mediapb.Cursor{LegId: id, Sequence: h.after})
	}
	return req, w.wanted
}

func (w *watch) forgetRestart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restart = nil
}

// deliver hands an event to the leg's sink unless it came before: after a
// reconnect mediad repeats what it cannot know to have arrived.
func (w *watch) deliver(leg string, ev cycle.Event, sequence uint64) {
	w.mu.Lock()
	h := w.legs[leg]
	fresh := h != nil && (sequence == 0 || sequence > h.after)
	if fresh && sequence > 0 {
		h.after = sequence
	}
	w.mu.Unlock()
	if fresh {
		h.sink(ev, sequence)
	}
}

// pass counts an event that no dialogue needs.
func (w *watch) pass(leg string, sequence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.legs[leg]; h != nil {
		h.after = max(h.after, sequence)
	}
}

// lose gives up all legs of the instance.
func (w *watch) lose(reason string) {
	w.mu.Lock()
	sinks := make([]Sink, 0, len(w.legs))
	for _, h := range w.legs {
		sinks = append(sinks, h.sink)
	}
	w.mu.Unlock()
	for _, sink := range sinks {
		sink(lost(reason), 0)
	}
}

func lost(reason string) cycle.Event {
	return cycle.Failed{Failure: cycle.Failure{Error: cycle.ErrorMediaServer, Details: map[string]string{"reason": reason}}}
}

// fromProto returns nil for events that are the session's matter.
func fromProto(ev *mediapb.WatchResponse) cycle.Event {
	switch {
	case ev.GetLegLost() != nil:
		return lost("the leg was lost")
	case ev.GetStepResult() != nil:
		r := ev.GetStepResult()
		if r.GetReason() == mediapb.StepResult_REASON_REVOKED {
			return cycle.Revoked{StepID: r.GetStepId()}
		}
		return cycle.StepDone{
			StepID: r.GetStepId(), Reason: reason(r.GetReason()), Digits: r.GetDigits(),
			TerminationKey: r.GetTerminationKey(), Buffer: r.GetBuffer(),
		}
	}
	return nil
}

func reason(r mediapb.StepResult_Reason) cycle.Reason {
	switch r {
	case mediapb.StepResult_REASON_TERMINATION_KEY:
		return cycle.ReasonTerminationKey
	case mediapb.StepResult_REASON_MAX_DIGITS:
		return cycle.ReasonMaxDigits
	case mediapb.StepResult_REASON_FIRST_TIMEOUT:
		return cycle.ReasonFirstTimeout
	case mediapb.StepResult_REASON_BETWEEN_TIMEOUT:
		return cycle.ReasonBetweenTimeout
	case mediapb.StepResult_REASON_INTERRUPTED:
		return cycle.ReasonInterrupted
	default:
		return cycle.ReasonDone
	}
}
