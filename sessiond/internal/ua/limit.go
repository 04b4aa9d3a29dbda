package ua

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket per source address. It keeps two generations of
// buckets and drops the older one when the younger is full, so that any number
// of sources costs a bounded amount of memory; a busy source is in the younger
// one and keeps its count.
type limiter struct {
	rate, burst float64
	now         func() time.Time

	mu         sync.Mutex
	young, old map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

const bucketsPerGeneration = 10_000

func newLimiter(rate, burst int) *limiter {
	return &limiter{rate: float64(rate), burst: float64(burst), now: time.Now, young: make(map[netip.Addr]*bucket)}
}

// sourceOf is what an address is counted as: IPv6 by /64, as a host has all of it.
func sourceOf(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// allow takes a token.
func (l *limiter) allow(a netip.Addr) bool {
	a = sourceOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.young[a]
	if b == nil {
		if b = l.old[a]; b == nil {
			b = &bucket{tokens: l.burst, last: now}
		}
		if len(l.young) >= bucketsPerGeneration {
			l.old, l.young = l.young, make(map[netip.Addr]*bucket)
		}
		l.young[a] = b
	}
	b.tokens = min(l.burst, b.tokens+now.Sub(b.last).Seconds()*l.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
