package telephonyevent

import "strings"

// QueueSize bounds the digits that wait to be sent on one leg.
const QueueSize = 64

// endPackets is how often the last packet of an event is sent (RFC 4733 §2.5.1.4).
const endPackets = 3

// Packet is what the sender wants on the line in a tick.
type Packet struct {
	Payload   [PayloadSize]byte
	Timestamp uint32
	Marker    bool
}

// Sender makes the packets of queued digits, one a tick of 20 ms. All
// durations are in timestamp units and multiples of the tick.
type Sender struct {
	queue   [QueueSize]queued
	head    int
	queued  int
	active  bool
	start   uint32
	elapsed uint32
	ends    int
	pause   uint32
}

type queued struct {
	code            byte
	duration, pause uint32
}

// Queue adds digits; nothing is added when one is no key or there is no room
// for all.
func (s *Sender) Queue(digits string, duration, pause uint32) bool {
	if s.queued+len(digits) > QueueSize {
		return false
	}
	for _, d := range []byte(digits) {
		if !IsKey(d) {
			return false
		}
	}
	for _, d := range []byte(digits) {
		slot := &s.queue[(s.head+s.queued)%QueueSize]
		// Longer than one packet can say would need segments, which no key press does.
		*slot = queued{code: byte(strings.IndexByte(keys, d)), duration: min(duration, maxDuration), pause: pause}
		s.queued++
	}
	return true
}

// Busy says whether audio has to stand back in this tick.
func (s *Sender) Busy() bool { return s.active || s.queued > 0 && s.pause == 0 }

// Clear drops what has not been sent; a tone on the line is ended properly.
func (s *Sender) Clear() {
	s.queued = 0
	if s.active && s.ends == 0 {
		s.queue[s.head].duration = s.elapsed
		s.queued = 1
	} else if s.active {
		s.queued = 1
	}
}

// Tick fills p when a packet is due. timestamp is the media time of the tick
// and step its length; the first packet carries one step of duration.
func (s *Sender) Tick(timestamp, step uint32, p *Packet) bool {
	if !s.active {
		if s.pause > 0 {
			s.pause -= min(step, s.pause)
			return false
		}
		if s.queued == 0 {
			return false
		}
		s.active, s.start, s.elapsed, s.ends = true, timestamp, 0, 0
	}
	current := &s.queue[s.head]
	if s.ends == 0 {
		s.elapsed = min(s.elapsed+step, max(current.duration, step))
	}
	end := s.elapsed >= current.duration
	p.Timestamp, p.Marker = s.start, s.elapsed == step && s.ends == 0
	block(p.Payload[:], current.code, end, uint16(s.elapsed))
	if !end {
		return true
	}
	if s.ends++; s.ends == endPackets {
		// The repetitions of the end fall into the pause.
		repeated := step * (endPackets - 1)
		s.pause = max(current.pause, repeated) - repeated
		s.active = false
		s.head = (s.head + 1) % QueueSize
		s.queued--
	}
	return true
}
