// Package leg is one participant's media: an RTP stream in each direction, the
// step of the dialogue that plays and collects, RTCP, and the far end's
// address. A leg is a plain struct that its shard drives with packets, ticks
// and explicit times; it does no I/O, takes no locks and allocates nothing on
// the way of a packet.
//
// A leg sends a packet in every tick from the first step (or background) under
// a grant on, comfort silence where there is nothing to play: pauses, waiting
// for digits, and the time until the next step arrives. That keeps NAT
// bindings and the far end's jitter buffer alive through a dialogue. A leg
// that nobody has told to play sends only RTCP.
package leg

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/player"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
	"github.com/callmesh/callmesh/mediad/internal/telephonyevent"
)

// Tick is the period of a leg.
const Tick = player.Tick

// unit is one RTP timestamp unit at 8000 Hz; all audio codecs here and
// telephone-event run at this clock.
const unit = time.Second / codec.SampleRate

// Identity is what events of a leg are labelled with.
type Identity struct {
	Leg, Session, Participant string
}

// Config is what a leg keeps from its creation.
type Config struct {
	Identity Identity
	Flow     packet.Flow
	Grant    uint64
	// RTPTimeout of 0 means never.
	RTPTimeout time.Duration
	// Relatch is how long the locked source must be silent before another may
	// take its place.
	Relatch time.Duration
	// Unlatched is how much media is sent to where nothing ever came from; 0
	// means no bound.
	Unlatched time.Duration
	// Epoch is the wall clock at time 0, for NTP timestamps.
	Epoch time.Time
	// Random seeds SSRC, sequence, timestamp (RFC 3550 §5.1) and the report
	// intervals.
	Random *rand.Rand
	// Counters and Events belong to the shard.
	Counters *Counters
	Events   Events
	// Listener gets received audio; nil while nobody listens.
	Listener Listener
}

// Listener takes the far end's audio, one frame a tick, after the jitter
// buffer. It runs on the tick and must not block; the frame is only lent.
type Listener interface {
	Frame(now time.Duration, samples []int16)
}

// Leg is one participant's media. Only its shard touches it.
type Leg struct {
	Config
	description Description

	// sending
	ssrc      uint32
	sequence  uint16
	timestamp uint32
	talking   bool // the last tick sent audio: no marker
	active    bool // a step or background has been asked for under this grant
	sent      uint64
	octets    uint64

	source    source
	unheard   unheard
	receiving received
	events    telephonyevent.Receiver
	keys      telephonyevent.Sender
	digits    dedupe

	player    player.Player
	collector collector.Collector
	step      step
	finished  string // id of the last step that ended

	control control
	closed  bool
	event   Event // scratch: what Emit copies
}

// New starts a leg at time now.
func New(now time.Duration, cfg Config, d Description) *Leg {
	l := &Leg{
		Config:    cfg,
		ssrc:      cfg.Random.Uint32(),
		sequence:  uint16(cfg.Random.Uint32()),
		timestamp: cfg.Random.Uint32(),
	}
	l.control.start(now, l.Random)
	l.source.silentSince = now
	l.Describe(now, d)
	if cfg.Listener != nil {
		l.receiving.listen()
	}
	return l
}

// SSRC of what the leg sends.
func (l *Leg) SSRC() uint32 { return l.ssrc }

// Running is the id of the step that runs, empty if none does.
func (l *Leg) Running() string { return l.step.id }

// Tick does the leg's 20 ms: timers, decisions of the step, one packet of
// media and whatever RTCP is due.
func (l *Leg) Tick(now time.Duration, out *packet.Batch) {
	l.tickStep(now)
	l.send(out)
	l.timestamp += codec.FrameSamples
	l.tickReceive(now)
	if now >= l.control.next {
		l.report(now, out, false)
	}
}

// Skip passes ticks that the shard could not keep: the stream's clock goes on,
// so that the far end hears a gap rather than ever more delay.
func (l *Leg) Skip(ticks int) { l.timestamp += uint32(ticks) * codec.FrameSamples }

// send writes this tick's RTP packet, if there is one. What is played goes on
// in time while the direction forbids sending, as it would on the line.
func (l *Leg) send(out *packet.Batch) {
	d := &l.description
	if l.keys.Busy() && d.EventPayloadType != 0 {
		l.sendKey(out)
		return
	}
	var event telephonyevent.Packet
	l.keys.Tick(l.timestamp, codec.FrameSamples, &event) // counts the pause down
	var payload []byte
	if l.active {
		if payload = l.player.Next(d.Codecs[0].Codec); payload == nil {
			payload = d.Codecs[0].Codec.Silence()
		}
	}
	if payload == nil || !d.Direction.Sends() {
		l.talking = false
		return
	}
	p := rtp.Packet{Marker: !l.talking, PayloadType: d.Codecs[0].PayloadType, Timestamp: l.timestamp}
	l.talking = l.emit(out, &p, payload)
}

// sendKey sends an RFC 4733 packet in place of audio.
func (l *Leg) sendKey(out *packet.Batch) {
	var event telephonyevent.Packet
	if l.active {
		l.player.Next(l.description.Codecs[0].Codec)
	}
	if !l.keys.Tick(l.timestamp, codec.FrameSamples, &event) || !l.description.Direction.Sends() {
		return
	}
	p := rtp.Packet{Marker: event.Marker, PayloadType: l.description.EventPayloadType, Timestamp: event.Timestamp}
	l.emit(out, &p, event.Payload[:])
}

// emit completes and queues a packet; false when there is nowhere to send it.
func (l *Leg) emit(out *packet.Batch, p *rtp.Packet, payload []byte) bool {
	to := l.source.destination(&l.description)
	if !to.IsValid() || l.silenced() {
		return false
	}
	d := out.Next(l.Flow, false, to)
	if d == nil || len(payload) > cap(d.Data)-rtp.HeaderSize {
		l.Counters.Dropped[DropOverflow]++
		return false
	}
	p.Sequence, p.SSRC = l.sequence, l.ssrc
	d.Data = d.Data[:rtp.HeaderSize+len(payload)]
	rtp.PutHeader(d.Data, p)
	copy(d.Data[rtp.HeaderSize:], payload)
	l.sequence++
	l.sent++
	l.octets += uint64(len(payload))
	if !l.unheard.heard {
		l.unheard.sent += Tick
	}
	l.Counters.Sent++
	return true
}

// SendKeys queues DTMF for the far end.
func (l *Leg) SendKeys(keys string, duration, pause time.Duration) error {
	if l.description.EventPayloadType == 0 {
		return ErrNoEvents
	}
	if !l.keys.Queue(keys, ticks(duration), ticks(pause)) {
		return ErrKeyQueue
	}
	return nil
}

// ticks rounds d to whole ticks, in timestamp units.
func ticks(d time.Duration) uint32 {
	return uint32((d+Tick/2)/Tick) * codec.FrameSamples
}

// Close ends the leg: the running step is told INTERRUPTED, RTCP says BYE.
func (l *Leg) Close(now time.Duration, out *packet.Batch) {
	l.finish(Interrupted)
	l.player.Clear()
	l.player.StopBackground()
	l.report(now, out, true)
	l.closed = true
}

// Closed tells whether the leg has ended: a command may come late.
func (l *Leg) Closed() bool { return l.closed }

// Remote is where media goes, for logs and tests.
func (l *Leg) Remote() netip.AddrPort { return l.source.destination(&l.description) }

// control is the leg's RTCP state.
type control struct {
	next      time.Duration
	reported  uint64 // packets sent when we last reported
	cname     string
	remote    rtcp.Report // the far end's last report about us
	known     bool
	roundTrip time.Duration
	address   netip.AddrPort // source of the far end's RTCP
}
