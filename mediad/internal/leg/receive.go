package leg

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/jitter"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
)

// received is the far end's stream.
type received struct {
	reception rtcp.Reception
	octets    uint64
	foreign   uint64
	buffer    *jitter.Buffer // nil while nobody listens
	frame     [codec.FrameSamples]int16
}

func (r *received) listen() { r.buffer = jitter.New() }

// Receive takes one datagram of the leg's ports.
func (l *Leg) Receive(now time.Duration, d *packet.Datagram) {
	if d.RTCP || rtp.IsRTCP(d.Data) {
		l.receiveControl(now, d)
		return
	}
	var p rtp.Packet
	if rtp.Parse(d.Data, &p) != nil {
		l.Counters.Dropped[DropMalformed]++
		return
	}
	if !l.description.knows(p.PayloadType) {
		l.Counters.Dropped[DropPayloadType]++
		return
	}
	if !l.description.Direction.Receives() {
		if d.Addr.Addr() == l.source.destination(&l.description).Addr() {
			l.hear()
		}
		l.Counters.Dropped[DropDirection]++
		return
	}
	switch l.source.judge(now, l.Relatch, d.Addr, &p) {
	case foreign:
		l.receiving.foreign++
		l.Counters.Dropped[DropForeign]++
		return
	case fresh:
		l.receiving.reception.Restart()
		l.events.Reset()
		if l.receiving.buffer != nil {
			l.receiving.buffer.Reset()
		}
	}
	l.hear()
	l.receiveValid(now, &p)
}

func (l *Leg) receiveValid(now time.Duration, p *rtp.Packet) {
	r := &l.receiving
	isEvent := p.PayloadType == l.description.EventPayloadType && p.PayloadType != 0
	if !r.reception.Packet(p.Sequence, p.Timestamp, uint32(now/unit), !isEvent) {
		l.Counters.Dropped[DropSequence]++
		return
	}
	r.octets += uint64(len(p.Payload))
	l.Counters.Received++
	l.source.silentSince, l.source.told = now, false
	switch {
	case isEvent:
		if key, pressed := l.events.Packet(p.Payload, p.Timestamp, p.Marker); pressed {
			l.press(now, key, fromRTP)
		}
	case r.buffer != nil:
		if f, ok := l.description.format(p.PayloadType); ok {
			r.buffer.Put(p.Timestamp, f.Codec, p.Payload)
		}
	}
}

// tickReceive plays received audio to the listener and watches for silence.
func (l *Leg) tickReceive(now time.Duration) {
	if r := &l.receiving; r.buffer != nil {
		r.buffer.Next(r.frame[:])
		l.Listener.Frame(now, r.frame[:])
	}
	s := &l.source
	if l.RTPTimeout <= 0 || s.told || !l.description.Direction.Receives() || now-s.silentSince < l.RTPTimeout {
		return
	}
	s.told = true
	l.event = Event{Of: &l.Identity, Kind: RTPTimeout, Silence: now - s.silentSince}
	l.Events.Emit(&l.event)
}
