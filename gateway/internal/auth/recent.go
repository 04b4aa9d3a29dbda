package auth

import "time"

// recent keeps the newest answers for a fixed time. As every entry lives
// equally long, the oldest is the next to expire: a ring is order enough.
type recent[V any] struct {
	ttl     time.Duration
	entries map[digest]entry[V]
	ring    []digest
	next    int
}

type entry[V any] struct {
	value V
	until time.Time
	slot  int
}

func newRecent[V any](capacity int, ttl time.Duration) *recent[V] {
	return &recent[V]{ttl: ttl, entries: make(map[digest]entry[V]), ring: make([]digest, capacity)}
}

func (r *recent[V]) get(sum digest, now time.Time) (V, bool) {
	e, ok := r.entries[sum]
	if ok && now.Before(e.until) {
		return e.value, true
	}
	var none V
	return none, false
}

// put keeps the value in place of the oldest entry.
func (r *recent[V]) put(sum digest, value V, now time.Time) {
	old := r.ring[r.next]
	if e, ok := r.entries[old]; ok && e.slot == r.next {
		delete(r.entries, old)
	}
	r.ring[r.next] = sum
	r.entries[sum] = entry[V]{value: value, until: now.Add(r.ttl), slot: r.next}
	r.next = (r.next + 1) % len(r.ring)
}
