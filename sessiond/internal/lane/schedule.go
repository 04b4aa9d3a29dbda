package lane

import (
	"container/heap"
	"time"
)

// maxLanes bounds the lanes kept in mind; those beyond are found by their
// partition's holder when they are overdue.
const maxLanes = 20_000

// schedule says which lane is looked at next. A lane is in one place at a time:
// among the timers, in its host's queue, or with a worker. It has no lock and
// starts nothing.
type schedule struct {
	perHost, total int
	items          map[Ref]*item
	timers         timers
	hosts          map[string]*host
	// turns are hosts with queued lanes and leave to start one, in order, each once.
	turns   []string
	running int
}

type place uint8

const (
	timed place = iota
	queued
	working
)

type item struct {
	ref   Ref
	at    time.Time
	place place
	index int
	// again is set when a lane is kicked while a worker has it: it may have seen
	// the lane empty a moment before.
	again bool
}

type host struct {
	queue   []*item
	running int
	inTurn  bool
}

func newSchedule(perHost, total int) schedule {
	return schedule{perHost: perHost, total: total, items: map[Ref]*item{}, hosts: map[string]*host{}}
}

// at has a lane looked at no later than at.
func (s *schedule) at(ref Ref, at time.Time) {
	it := s.items[ref]
	switch {
	case it == nil:
		if len(s.items) >= maxLanes {
			return
		}
		it = &item{ref: ref, at: at}
		s.items[ref] = it
		heap.Push(&s.timers, it)
	case it.place == working:
		it.again = true
	case it.place == timed && at.Before(it.at):
		it.at = at
		heap.Fix(&s.timers, it.index)
	}
}

// ripen moves lanes that are due into their hosts' queues.
func (s *schedule) ripen(now time.Time) {
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		it := heap.Pop(&s.timers).(*item)
		it.place = queued
		name := it.ref.Host()
		h := s.hosts[name]
		if h == nil {
			h = &host{}
			s.hosts[name] = h
		}
		h.queue = append(h.queue, it)
		s.offer(name, h)
	}
}

func (s *schedule) offer(name string, h *host) {
	if !h.inTurn && len(h.queue) > 0 && h.running < s.perHost {
		h.inTurn = true
		s.turns = append(s.turns, name)
	}
}

// pop returns the next lane to work on, hosts in turn.
func (s *schedule) pop() (Ref, bool) {
	if s.running >= s.total || len(s.turns) == 0 {
		return Ref{}, false
	}
	name := s.turns[0]
	s.turns = s.turns[1:]
	h := s.hosts[name]
	h.inTurn = false
	it := h.queue[0]
	h.queue[0] = nil
	h.queue = h.queue[1:]
	it.place = working
	h.running++
	s.running++
	s.offer(name, h)
	return it.ref, true
}

// finish ends the work on a lane; again is when to look at it next, or zero.
func (s *schedule) finish(ref Ref, again time.Time) {
	name := ref.Host()
	h := s.hosts[name]
	h.running--
	s.running--
	if h.running == 0 && len(h.queue) == 0 {
		delete(s.hosts, name)
	} else {
		s.offer(name, h)
	}
	it := s.items[ref]
	if it.again {
		again = time.Now()
	}
	if again.IsZero() {
		delete(s.items, ref)
		return
	}
	it.again, it.place, it.at = false, timed, again
	heap.Push(&s.timers, it)
}

func (s *schedule) nextAt() (time.Time, bool) {
	if len(s.timers) == 0 {
		return time.Time{}, false
	}
	return s.timers[0].at, true
}

// timers is a heap by time.
type timers []*item

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

func (t *timers) Push(x any) {
	it := x.(*item)
	it.index = len(*t)
	*t = append(*t, it)
}

func (t *timers) Pop() any {
	old := *t
	last := len(old) - 1
	it := old[last]
	old[last] = nil
	*t = old[:last]
	return it
}
