package shard

import (
	"sync"

	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// outbox carries events from the loop to the goroutine that publishes them.
// The loop appends to its own list and hands it over when the lock is free; if
// it is not, the next turn will do. Both lists keep their memory, so that only
// a burst beyond anything before allocates.
type outbox struct {
	pending []leg.Event // the loop's

	mu     sync.Mutex
	queue  []leg.Event
	signal chan struct{}
}

const (
	outboxSize = 64
	// outboxLimit bounds what waits while the publisher gets no CPU. Step
	// results are never dropped: there is at most one for each command.
	outboxLimit = 1 << 15
)

func (o *outbox) init() {
	o.pending = make([]leg.Event, 0, outboxSize)
	o.queue = make([]leg.Event, 0, outboxSize)
	o.signal = make(chan struct{}, 1)
}

func (o *outbox) add(e *leg.Event) {
	if len(o.pending) >= outboxLimit && e.Kind == leg.Digit {
		return
	}
	o.pending = append(o.pending, *e)
}

func (o *outbox) flush() {
	if len(o.pending) == 0 || !o.mu.TryLock() {
		return
	}
	o.queue = append(o.queue, o.pending...)
	o.mu.Unlock()
	o.pending = o.pending[:0]
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

// deliver publishes until closed, and then what is left.
func (o *outbox) deliver(closed <-chan struct{}, publish func(*leg.Event)) {
	var taken []leg.Event
	for open := true; open; {
		select {
		case <-o.signal:
		case <-closed:
			open = false
		}
		o.mu.Lock()
		taken, o.queue = o.queue, taken[:0]
		o.mu.Unlock()
		for i := range taken {
			publish(&taken[i])
			taken[i] = leg.Event{}
		}
	}
	for i := range o.pending {
		publish(&o.pending[i])
	}
}
