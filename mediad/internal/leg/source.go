package leg

import (
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/rtp"
)

// probation is how many packets in sequence a new source must send before it
// may replace a locked one that fell silent, or a new SSRC the known one: one
// stray packet proves nothing (RFC 3550 A.1, MIN_SEQUENTIAL and one more).
const probation = 3

// source is symmetric RTP with a lock: media goes to the SDP address until the
// first valid packet arrives, from then on to where that came from, and
// packets from elsewhere are dropped. Another source may take over only when
// the locked one has been silent for a while.
type source struct {
	locked bool
	addr   netip.AddrPort
	ssrc   uint32
	heard  time.Duration // last packet of the locked source

	// former is the source before the far end announced another address; its
	// packets in flight must not win the new lock.
	former      netip.AddrPort
	formerUntil time.Duration

	candidate candidate

	// silentSince and told serve the RTP timeout.
	silentSince time.Duration
	told        bool
}

type candidate struct {
	addr     netip.AddrPort
	ssrc     uint32
	sequence uint16
	count    int
}

// verdict on a packet's origin.
type verdict uint8

const (
	foreign verdict = iota
	known
	fresh // a new source or SSRC: streams start anew
)

// judge says whether a valid packet belongs to the leg, and locks.
func (s *source) judge(now, relatch time.Duration, from netip.AddrPort, p *rtp.Packet) verdict {
	switch {
	case s.locked && from == s.addr && p.SSRC == s.ssrc:
		s.heard = now
		return known
	case s.locked && from == s.addr:
		// The far end restarted its stream: a transfer, a new encoder.
		if !s.candidate.proves(from, p) {
			return foreign
		}
	case s.locked:
		if now-s.heard < relatch || !s.candidate.proves(from, p) {
			return foreign
		}
	case from == s.former && now < s.formerUntil:
		return foreign
	}
	s.locked, s.addr, s.ssrc, s.heard, s.candidate = true, from, p.SSRC, now, candidate{}
	return fresh
}

// proves counts packets in sequence of one source.
func (c *candidate) proves(from netip.AddrPort, p *rtp.Packet) bool {
	if c.addr != from || c.ssrc != p.SSRC || p.Sequence != c.sequence+1 {
		*c = candidate{addr: from, ssrc: p.SSRC}
	}
	c.sequence = p.Sequence
	c.count++
	return c.count >= probation
}

// formerFor is how long packets in flight of the former source are refused.
const formerFor = 2 * time.Second

// move unlocks because the far end announced another address than before. Who
// already sends from there stays; who was heard before any address was known
// (late offer) must prove itself again, but is not shut out.
func (s *source) move(now time.Duration, before, to netip.AddrPort) {
	if !s.locked || s.addr == to {
		return
	}
	if before.IsValid() {
		s.former, s.formerUntil = s.addr, now+formerFor
	}
	s.locked, s.candidate = false, candidate{}
}

// destination of our media.
func (s *source) destination(d *Description) netip.AddrPort {
	if s.locked {
		return s.addr
	}
	return d.Remote
}
