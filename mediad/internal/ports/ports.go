// Package ports leases the RTP port pairs of a mediad: an even port for RTP
// and the odd one above it for RTCP (RFC 3550 §11). A released pair rests in
// quarantine, so that late packets of the old call never reach a new one.
package ports

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrExhausted says that no pair may be given out.
var ErrExhausted = errors.New("no free RTP ports")

// Range is an inclusive range of UDP ports.
type Range struct{ First, Last uint16 }

// ParseRange reads "20000-29999".
func ParseRange(s string) (Range, error) {
	low, high, ok := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return Range{}, fmt.Errorf("port range %q: want first-last, such as 20000-29999", s)
	}
	r := Range{First: uint16(first), Last: uint16(last)}
	if first < 1024 || r.pairs() < 1 {
		return Range{}, fmt.Errorf("port range %q: want at least one even port and the odd one above it, from 1024 on", s)
	}
	return r, nil
}

func (r Range) base() int  { return (int(r.First) + 1) &^ 1 }
func (r Range) pairs() int { return (int(r.Last) + 1 - r.base()) / 2 }

// Allocator is a bitmap of the range's pairs. It is safe for concurrent use.
type Allocator struct {
	base       int
	pairs      int
	reserve    int
	quarantine time.Duration
	now        func() time.Time

	mu      sync.Mutex
	used    []uint64 // bit set: leased or resting
	free    int
	next    int
	resting []rest // a ring, oldest first
	head    int
	count   int
}

type rest struct {
	pair  int
	until time.Time
}

// New makes an allocator. reserve pairs are kept back for calls that are
// already up, so that they never meet exhaustion.
func New(r Range, reserve int, quarantine time.Duration, now func() time.Time) *Allocator {
	pairs := r.pairs()
	a := &Allocator{
		base: r.base(), pairs: pairs, reserve: min(max(reserve, 0), pairs-1), quarantine: quarantine, now: now,
		used: make([]uint64, (pairs+63)/64), free: pairs, resting: make([]rest, pairs),
		// A random start keeps a restarted mediad off the ports of the calls it lost.
		next: rand.IntN(pairs),
	}
	for i := pairs; i < 64*len(a.used); i++ {
		a.used[i/64] |= 1 << (i % 64)
	}
	return a
}

// Lease gives out a pair by its even port. Only established calls may use the reserve.
func (a *Allocator) Lease(established bool) (uint16, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake()
	if a.free == 0 || !established && a.free <= a.reserve {
		return 0, ErrExhausted
	}
	pair := a.find(a.next)
	a.used[pair/64] |= 1 << (pair % 64)
	a.free--
	// Next fit: a pair comes round again as late as possible.
	a.next = (pair + 1) % a.pairs
	return uint16(a.base + 2*pair), nil
}

// Release puts a leased pair into quarantine.
func (a *Allocator) Release(port uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pair := (int(port) - a.base) / 2
	a.resting[(a.head+a.count)%a.pairs] = rest{pair: pair, until: a.now().Add(a.quarantine)}
	a.count++
}

// Free is the number of pairs that could be leased now, the reserve included.
func (a *Allocator) Free() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake()
	return a.free
}

// Pairs is the size of the range.
func (a *Allocator) Pairs() int { return a.pairs }

// wake frees the pairs whose quarantine is over.
func (a *Allocator) wake() {
	now := a.now()
	for a.count > 0 && !a.resting[a.head].until.After(now) {
		pair := a.resting[a.head].pair
		a.used[pair/64] &^= 1 << (pair % 64)
		a.free++
		a.head = (a.head + 1) % a.pairs
		a.count--
	}
}

// find returns the first free pair from start on, around the range; there is one.
func (a *Allocator) find(start int) int {
	word := start / 64
	mask := ^uint64(0) << (start % 64)
	for {
		if open := ^a.used[word] & mask; open != 0 {
			return word*64 + bits.TrailingZeros64(open)
		}
		word, mask = (word+1)%len(a.used), ^uint64(0)
	}
}
