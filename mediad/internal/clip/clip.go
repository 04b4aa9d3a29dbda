// Package clip keeps the audio that players share: linear samples under their
// content hash, and one encoding for each codec that asked. Encodings are
// immutable, so that any number of legs on any shard read them without locks.
package clip

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/codec"
)

// Errors of Put.
var (
	ErrNoRoom = errors.New("clip store is full of clips in use")
	ErrHash   = errors.New("clip id is not the SHA-256 of the samples")
)

// ID is the lowercase hex SHA-256 of little-endian 16-bit samples.
func ID(samples []byte) string {
	sum := sha256.Sum256(samples)
	return hex.EncodeToString(sum[:])
}

// Clip is one piece of audio. Who has acquired it may read it until release.
type Clip struct {
	id      string
	samples []int16
	store   *Store
	holds   atomic.Int32
	encoded []atomic.Pointer[[]byte] // by codec index
	once    sync.Mutex               // one encoder at a time
	element *list.Element            // guarded by the store
	bytes   int64                    // guarded by the store
}

// ID under which the clip is stored.
func (c *Clip) ID() string { return c.id }

// Length of the audio.
func (c *Clip) Length() time.Duration {
	return time.Duration(len(c.samples)) * time.Second / codec.SampleRate
}

// Samples are shared: read only.
func (c *Clip) Samples() []int16 { return c.samples }

// Frames is the number of 20 ms frames; the last one is padded with silence.
func (c *Clip) Frames() int {
	return (len(c.samples) + codec.FrameSamples - 1) / codec.FrameSamples
}

// Encoded is the whole clip in cd, a multiple of its frame size; nil when
// nobody has asked for it by Encode. Safe on the tick.
func (c *Clip) Encoded(cd *codec.Codec) []byte {
	if p := c.encoded[cd.Index()].Load(); p != nil {
		return *p
	}
	return nil
}

// Encode makes the encoding for cd unless it exists. Not for the tick.
func (c *Clip) Encode(cd *codec.Codec) {
	c.once.Lock()
	defer c.once.Unlock()
	if c.Encoded(cd) != nil {
		return
	}
	frames := c.Frames()
	out := make([]byte, frames*cd.FrameBytes)
	whole := len(c.samples) / codec.FrameSamples
	cd.Encode(out, c.samples[:whole*codec.FrameSamples])
	if frames > whole {
		var last [codec.FrameSamples]int16
		copy(last[:], c.samples[whole*codec.FrameSamples:])
		cd.Encode(out[whole*cd.FrameBytes:], last[:])
	}
	c.encoded[cd.Index()].Store(&out)
	c.store.grow(c, int64(len(out)))
}

// Hold adds a hold; the caller must have one. Safe on the tick.
func (c *Clip) Hold() { c.holds.Add(1) }

// Holds is how many players have the clip.
func (c *Clip) Holds() int { return int(c.holds.Load()) }

// Release gives a hold back. It only counts down, so it is safe on the tick.
func (c *Clip) Release() { c.holds.Add(-1) }

// Store holds clips up to a budget of bytes and drops the longest unused
// first. What a player holds stays, even above the budget.
type Store struct {
	budget   int64
	registry *codec.Registry

	mu    sync.Mutex
	clips map[string]*Clip
	order *list.List // of *Clip, most recently used first
	bytes int64
}

// NewStore makes an empty store.
func NewStore(budget int64, registry *codec.Registry) *Store {
	return &Store{budget: budget, registry: registry, clips: map[string]*Clip{}, order: list.New()}
}

// Put stores samples, little-endian 16 bit, under id, which must be their hash.
func (s *Store) Put(id string, samples []byte) (*Clip, error) {
	if ID(samples) != id {
		return nil, ErrHash
	}
	c := &Clip{id: id, store: s, samples: make([]int16, len(samples)/2), encoded: make([]atomic.Pointer[[]byte], s.registry.Len())}
	for i := range c.samples {
		c.samples[i] = int16(binary.LittleEndian.Uint16(samples[2*i:]))
	}
	c.bytes = int64(len(samples))
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.clips[id]; ok {
		s.order.MoveToFront(have.element)
		return have, nil
	}
	if !s.makeRoom(c.bytes) {
		return nil, ErrNoRoom
	}
	c.element = s.order.PushFront(c)
	s.clips[id] = c
	s.bytes += c.bytes
	return c, nil
}

// Acquire holds a clip for a player; Release ends it.
func (s *Store) Acquire(id string) (*Clip, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clips[id]
	if !ok {
		return nil, false
	}
	c.holds.Add(1)
	s.order.MoveToFront(c.element)
	return c, true
}

// Bytes in use, and how many clips there are.
func (s *Store) Bytes() (bytes int64, clips int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, len(s.clips)
}

// grow accounts for an encoding. The clip is held, so it stays.
func (s *Store) grow(c *Clip, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clips[c.id] != c {
		return
	}
	c.bytes += n
	s.bytes += n
	s.makeRoom(0)
}

// makeRoom drops unused clips until n bytes fit.
func (s *Store) makeRoom(n int64) bool {
	for e := s.order.Back(); e != nil && s.bytes+n > s.budget; {
		c := e.Value.(*Clip)
		e = e.Prev()
		// Holds only rise under the lock, so a clip seen unused is unused.
		if c.holds.Load() > 0 {
			continue
		}
		s.order.Remove(c.element)
		delete(s.clips, c.id)
		s.bytes -= c.bytes
	}
	return s.bytes+n <= s.budget
}
