package leg_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
)

var (
	sdp     = netip.MustParseAddrPort("192.0.2.1:4000")
	behind  = netip.MustParseAddrPort("198.51.100.7:40000")
	another = netip.MustParseAddrPort("203.0.113.9:5000")
)

const eventPT = 101

// reporter is a test, a benchmark or a property check.
type reporter interface {
	Helper()
	Fatal(args ...any)
}

// rig is a leg without sockets, under a virtual clock.
type rig struct {
	t        reporter
	now      time.Duration
	leg      *leg.Leg
	out      *packet.Batch
	events   []leg.Event
	counters leg.Counters
	codecs   *codec.Registry
	pcmu     *codec.Codec
	pcma     *codec.Codec
	clips    *clip.Store

	// the far end
	from      netip.AddrPort
	ssrc      uint32
	sequence  uint16
	timestamp uint32
}

func (r *rig) Emit(e *leg.Event) { r.events = append(r.events, *e) }

func newRig(t reporter, change func(*leg.Config, *leg.Description)) *rig {
	t.Helper()
	r := &rig{t: t, pcmu: codec.NewPCMU(), pcma: codec.NewPCMA(), out: packet.NewBatch(8), from: sdp, ssrc: 77, sequence: 65000}
	r.codecs = codec.NewRegistry(r.pcmu, r.pcma)
	r.clips = clip.NewStore(1<<24, r.codecs)
	cfg := leg.Config{
		Identity: leg.Identity{Leg: "a"}, Grant: 1, Relatch: 2 * time.Second, Epoch: time.Unix(1_700_000_000, 0),
		Random: rand.New(rand.NewPCG(1, 2)), Counters: &r.counters, Events: r,
	}
	d := r.description()
	if change != nil {
		change(&cfg, &d)
	}
	r.leg = leg.New(0, cfg, d)
	return r
}

func (r *rig) description() leg.Description {
	return leg.Description{
		Remote: sdp, RemoteRTCP: netip.AddrPortFrom(sdp.Addr(), sdp.Port()+1),
		Codecs: []leg.Format{{Codec: r.pcmu, PayloadType: 0}, {Codec: r.pcma, PayloadType: 8}}, EventPayloadType: eventPT,
	}
}

// sent is one packet of ours with its address.
type sent struct {
	rtp.Packet
	to netip.AddrPort
}

// tick runs one tick and returns the RTP packet that it sent, if any.
func (r *rig) tick() (s sent, ok bool) {
	r.t.Helper()
	r.now += leg.Tick
	r.out.Reset()
	r.leg.Tick(r.now, r.out)
	for _, d := range r.out.Datagrams() {
		if d.RTCP {
			continue
		}
		if ok {
			r.t.Fatal("two media packets in one tick")
		}
		data := append([]byte(nil), d.Data...)
		if err := rtp.Parse(data, &s.Packet); err != nil {
			r.t.Fatal(err)
		}
		s.to, ok = d.Addr, true
	}
	return s, ok
}

// control returns the RTCP of the last tick.
func (r *rig) control() (rtcp.Compound, netip.AddrPort, bool) {
	for _, d := range r.out.Datagrams() {
		if d.RTCP || rtp.IsRTCP(d.Data) {
			var c rtcp.Compound
			if err := rtcp.Parse(d.Data, r.ssrc, &c); err != nil {
				r.t.Fatal(err)
			}
			return c, d.Addr, true
		}
	}
	return rtcp.Compound{}, netip.AddrPort{}, false
}

// ticks runs n of them.
func (r *rig) ticks(n int) {
	for range n {
		r.tick()
	}
}

// receive hands the leg a packet of the far end.
func (r *rig) receive(pt uint8, timestamp uint32, payload []byte) {
	data := make([]byte, rtp.HeaderSize, rtp.HeaderSize+len(payload))
	rtp.PutHeader(data, &rtp.Packet{PayloadType: pt, Sequence: r.sequence, Timestamp: timestamp, SSRC: r.ssrc})
	r.sequence++
	r.leg.Receive(r.now, &packet.Datagram{Addr: r.from, Data: append(data, payload...)})
}

// audio receives a frame and lets its time pass.
func (r *rig) audio() {
	r.receive(0, r.timestamp, make([]byte, codec.FrameSamples))
	r.timestamp += codec.FrameSamples
}

// press receives one event packet of a key.
func (r *rig) press(keys string) {
	for _, k := range []byte(keys) {
		code := byte(0)
		for i, c := range []byte("0123456789*#ABCD") {
			if c == k {
				code = byte(i)
			}
		}
		r.timestamp += 800
		payload := []byte{code, 0x80 | 10, 0, 0}
		binary.BigEndian.PutUint16(payload[2:], 400)
		r.receive(eventPT, r.timestamp, payload)
	}
}

// clip of n frames whose samples all have the value: frames tell themselves apart.
func (r *rig) clip(value int16, frames int) *clip.Clip {
	r.t.Helper()
	raw := make([]byte, 0, 2*frames*codec.FrameSamples)
	for range frames * codec.FrameSamples {
		raw = binary.LittleEndian.AppendUint16(raw, uint16(value))
	}
	id := clip.ID(raw)
	if _, err := r.clips.Put(id, raw); err != nil {
		r.t.Fatal(err)
	}
	c, _ := r.clips.Acquire(id)
	c.Encode(r.pcmu)
	return c
}

// value that a PCMU payload decodes to, 0 for silence.
func (r *rig) value(payload []byte) int {
	var s [1]int16
	r.pcmu.Decode(s[:], payload[:1])
	return int(s[0])
}

// close to a clip's value, as far as µ-law goes.
func near(got, want int) bool { return got > want*9/10-10 && got < want*11/10+10 }

// results so far.
func (r *rig) results() (out []leg.Event) {
	for _, e := range r.events {
		if e.Kind == leg.StepResult {
			out = append(out, e)
		}
	}
	return out
}
