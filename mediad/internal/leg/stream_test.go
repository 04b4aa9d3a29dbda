package leg_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
)

// wait starts a step that sends silence for a long time.
func (r *rig) wait(id string) { r.leg.Run(r.now, leg.Step{ID: id, After: time.Hour}) }

func TestOneStreamForTheLifeOfTheLeg(t *testing.T) {
	r := newRig(t, nil)
	if _, ok := r.tick(); ok {
		t.Error("a leg that nobody told to play sends media")
	}
	r.wait("a")
	first := mustSend(t, r)
	if !first.Marker {
		t.Error("no marker at the start")
	}
	last := first
	next := func(what string) {
		t.Helper()
		s := mustSend(t, r)
		if s.SSRC != first.SSRC || s.Sequence != last.Sequence+1 || s.Timestamp != last.Timestamp+codec.FrameSamples || s.Marker {
			t.Errorf("%s: %+v after %+v", what, s.Packet, last.Packet)
		}
		last = s
	}
	next("second packet")
	r.leg.Stop("")
	next("between steps")
	r.leg.Run(r.now, leg.Step{ID: "b", Playlist: []*clip.Clip{r.clip(1000, 3)}, After: time.Hour})
	next("prompt")

	d := r.description()
	d.Remote, d.Codecs = another, []leg.Format{{Codec: r.pcma, PayloadType: 8}}
	if len(r.leg.Missing(r.pcma)) != 1 {
		t.Error("the prompt should lack an A-law encoding")
	}
	for _, c := range r.leg.Missing(r.pcma) {
		c.Encode(r.pcma)
	}
	r.leg.Describe(r.now, d)
	next("other codec and address")
	if last.PayloadType != 8 || last.to != another {
		t.Errorf("after the update: payload type %d to %v", last.PayloadType, last.to)
	}

	d.Direction = leg.Inactive
	r.leg.Describe(r.now, d)
	for range 10 {
		if _, ok := r.tick(); ok {
			t.Fatal("sent while inactive")
		}
	}
	d.Direction = leg.SendRecv
	r.leg.Describe(r.now, d)
	s := mustSend(t, r)
	if !s.Marker || s.Sequence != last.Sequence+1 || s.Timestamp != last.Timestamp+11*codec.FrameSamples {
		t.Errorf("after the hold: %+v after %+v", s.Packet, last.Packet)
	}
}

func TestDirections(t *testing.T) {
	for direction, want := range map[leg.Direction]struct{ sends, receives bool }{
		leg.SendRecv: {true, true}, leg.SendOnly: {true, false}, leg.RecvOnly: {false, true}, leg.Inactive: {false, false},
	} {
		r := newRig(t, func(_ *leg.Config, d *leg.Description) { d.Direction = direction })
		r.wait("s")
		_, sends := r.tick()
		r.audio()
		receives := r.leg.Statistics().PacketsReceived == 1
		if sends != want.sends || receives != want.receives {
			t.Errorf("direction %v: sends %v, receives %v", direction, sends, receives)
		}
	}
}

func TestMediaFollowsTheFirstValidSource(t *testing.T) {
	r := newRig(t, nil)
	r.wait("s")
	if s := mustSend(t, r); s.to != sdp {
		t.Errorf("before any packet: to %v", s.to)
	}
	r.from = behind
	r.leg.Receive(r.now, &packet.Datagram{Addr: behind, Data: []byte("no RTP at all")})
	r.receive(77, 0, make([]byte, 160)) // a payload type nobody negotiated
	if s := mustSend(t, r); s.to != sdp {
		t.Errorf("after invalid packets: to %v", s.to)
	}
	r.audio()
	if s := mustSend(t, r); s.to != behind {
		t.Errorf("after a valid packet: to %v", s.to)
	}
	if r.counters.Dropped[leg.DropMalformed] != 1 || r.counters.Dropped[leg.DropPayloadType] != 1 {
		t.Errorf("dropped %v", r.counters.Dropped)
	}
}

func TestForeignSourcesAreDroppedUntilTheLockedOneIsSilent(t *testing.T) {
	r := newRig(t, nil)
	r.wait("s")
	r.audio()
	intrude := func(n int) {
		from, ssrc, seq := r.from, r.ssrc, r.sequence
		r.from, r.ssrc = another, 666
		for range n {
			r.press("9")
		}
		r.from, r.ssrc, r.sequence = from, ssrc, seq
	}
	for range 200 {
		r.audio()
		intrude(1)
		if s := mustSend(t, r); s.to != sdp {
			t.Fatalf("the intruder won the leg: to %v", s.to)
		}
	}
	if got := r.leg.Statistics().PacketsForeign; got != 200 || len(r.events) != 0 {
		t.Errorf("%d foreign packets, %d events", got, len(r.events))
	}
	r.ticks(110) // 2.2 s of silence
	intrude(2)   // not yet proven
	if r.leg.Remote() != sdp {
		t.Error("two packets were enough")
	}
	r.from, r.ssrc, r.sequence = another, 667, 5
	for range 3 {
		r.audio()
	}
	if r.leg.Remote() != another {
		t.Error("a source in sequence did not take over from a silent one")
	}
}

func TestAnUpdateOfTheAddressUnlocks(t *testing.T) {
	r := newRig(t, nil)
	r.from = behind
	r.audio()
	d := r.description()
	r.leg.Describe(r.now, d)
	if r.leg.Remote() != behind {
		t.Error("the same description unlocked the source")
	}
	d.Remote = another
	r.leg.Describe(r.now, d)
	r.audio() // of the former source, in flight
	if r.leg.Remote() != another {
		t.Errorf("media goes to %v, not to the announced address", r.leg.Remote())
	}
	r.from = netip.MustParseAddrPort("203.0.113.9:6000")
	r.audio()
	if r.leg.Remote() != r.from {
		t.Errorf("media goes to %v, not to where it comes from", r.leg.Remote())
	}
}

func TestALateOffer(t *testing.T) {
	for name, from := range map[string]netip.AddrPort{"announced later": sdp, "behind a NAT": behind} {
		r := newRig(t, func(_ *leg.Config, d *leg.Description) { d.Remote, d.RemoteRTCP = netip.AddrPort{}, netip.AddrPort{} })
		r.wait("s")
		if _, ok := r.tick(); ok {
			t.Errorf("%s: sent to nowhere", name)
		}
		r.from = from
		r.audio()
		r.leg.Describe(r.now, r.description())
		r.audio()
		if s := mustSend(t, r); s.to != from || r.leg.Statistics().PacketsForeign != 0 {
			t.Errorf("%s: to %v, %d foreign", name, s.to, r.leg.Statistics().PacketsForeign)
		}
	}
}

func TestANewSSRCOfTheSameSource(t *testing.T) {
	r := newRig(t, nil)
	r.press("1")
	r.ssrc, r.timestamp = 78, 0 // a restarted encoder counts anew
	for range 3 {
		r.audio()
	}
	r.press("2")
	digits := ""
	for _, e := range r.events {
		digits += string(e.Key)
	}
	if digits != "12" {
		t.Errorf("digits %q", digits)
	}
}

func TestRTPTimeout(t *testing.T) {
	r := newRig(t, func(c *leg.Config, _ *leg.Description) { c.RTPTimeout = time.Second })
	count := func() (n int) {
		for _, e := range r.events {
			if e.Kind == leg.RTPTimeout {
				n++
			}
		}
		return n
	}
	r.ticks(49)
	if count() != 0 {
		t.Error("too early")
	}
	r.ticks(100)
	if count() != 1 {
		t.Errorf("%d events for one silence", count())
	}
	r.audio()
	d := r.description()
	d.Direction = leg.SendOnly
	r.leg.Describe(r.now, d)
	r.ticks(200)
	if count() != 1 {
		t.Error("told of silence on hold")
	}
	d.Direction = leg.SendRecv
	r.leg.Describe(r.now, d)
	r.ticks(40)
	if count() != 1 {
		t.Error("the hold counted as silence")
	}
	r.ticks(20)
	if count() != 2 {
		t.Errorf("%d events after the second silence", count())
	}
}

func TestSignalledAndSentDigitsAreOne(t *testing.T) {
	r := newRig(t, nil)
	inject := func(keys string) {
		for _, k := range []byte(keys) {
			r.leg.Inject(r.now, k)
		}
	}
	r.press("1")
	inject("1") // its echo
	r.press("1")
	inject("12") // an echo, and one that only signalling brought
	r.press("2") // the echo of that
	r.ticks(150)
	inject("2")   // too late to be an echo
	r.press("44") // twice by the same way is twice
	inject("44")
	digits := ""
	for _, e := range r.events {
		if e.Kind == leg.Digit {
			digits += string(e.Key)
		}
	}
	if digits != "112244" {
		t.Errorf("digits %q, want 112244", digits)
	}
}

func TestSentKeysReplaceAudio(t *testing.T) {
	r := newRig(t, nil)
	r.wait("s")
	before := mustSend(t, r)
	if err := r.leg.SendKeys("5", 100*time.Millisecond, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		s := mustSend(t, r)
		if s.PayloadType != eventPT || s.Timestamp != before.Timestamp+codec.FrameSamples || s.Marker != (i == 0) || s.Sequence != before.Sequence+1+uint16(i) {
			t.Errorf("packet %d: %+v", i, s.Packet)
		}
	}
	if s := mustSend(t, r); s.PayloadType != 0 || s.Timestamp != before.Timestamp+8*codec.FrameSamples {
		t.Errorf("audio after the tone: %+v", s.Packet)
	}
	if err := r.leg.SendKeys("x", time.Second, time.Second); err == nil {
		t.Error("x is no key")
	}
	d := r.description()
	d.EventPayloadType = 0
	r.leg.Describe(r.now, d)
	if err := r.leg.SendKeys("1", time.Second, time.Second); err == nil {
		t.Error("events were not negotiated")
	}
}

func TestReports(t *testing.T) {
	r := newRig(t, nil)
	r.wait("s")
	reports := 0
	for range 3000 { // one minute
		r.audio()
		r.tick()
		c, to, ok := r.control()
		if !ok {
			continue
		}
		reports++
		if !c.HasSender || !c.HasReport || c.Report.CumulativeLost != 0 || to.Port() != 4001 {
			t.Fatalf("report %+v to %v", c, to)
		}
	}
	if reports < 8 || reports > 24 {
		t.Errorf("%d reports in a minute, want about 12", reports)
	}
	// The far end heard us 300 ms ago and answered after 200 ms.
	ntp := rtcp.NTP(time.Unix(1_700_000_000, 0).Add(r.now - 300*time.Millisecond))
	answer := rtcp.Compound{SSRC: r.ssrc, CNAME: "x", HasReport: true, Report: rtcp.Report{
		SSRC: r.leg.SSRC(), CumulativeLost: 5, Jitter: 80, LastSR: rtcp.Middle(ntp), DelaySinceLastSR: 65536 / 5,
	}}
	r.leg.Receive(r.now, &packet.Datagram{RTCP: true, Addr: netip.MustParseAddrPort("203.0.113.1:1"), Data: answer.Append(nil)})
	if r.leg.Statistics().RoundTrip != 0 {
		t.Error("RTCP of a stranger was believed")
	}
	r.leg.Receive(r.now, &packet.Datagram{RTCP: true, Addr: netip.MustParseAddrPort("192.0.2.1:9999"), Data: answer.Append(nil)})
	s := r.leg.Statistics()
	if s.RoundTrip < 99*time.Millisecond || s.RoundTrip > 101*time.Millisecond || s.RemoteLost != 5 || s.RemoteJitter != 10*time.Millisecond {
		t.Errorf("statistics = %+v", s)
	}
	if s.MOS < 4 || s.PacketsReceived != 3000 || s.PacketsSent != 3000 || s.OctetsSent != 3000*160 || s.Codec != "PCMU" {
		t.Errorf("statistics = %+v", s)
	}
	r.out.Reset()
	r.leg.Close(r.now, r.out)
	if c, to, ok := r.control(); !ok || !c.Bye || to.Port() != 9999 {
		t.Errorf("the last report: %+v to %v", c, to)
	}
}

func TestMuxedReports(t *testing.T) {
	r := newRig(t, func(_ *leg.Config, d *leg.Description) { d.Mux, d.RemoteRTCP = true, d.Remote })
	for range 500 {
		r.tick()
		if _, to, ok := r.control(); ok {
			if to != sdp {
				t.Errorf("to %v", to)
			}
			return
		}
	}
	t.Error("no report")
}

func TestListenerGetsAFrameEachTick(t *testing.T) {
	var r *rig
	frames := listener(0)
	r = newRig(t, func(c *leg.Config, _ *leg.Description) { c.Listener = &frames })
	for range 50 {
		r.audio()
		r.tick()
	}
	if frames != 50 {
		t.Errorf("%d frames", frames)
	}
}

type listener int

func (l *listener) Frame(time.Duration, []int16) { *l++ }

func TestThePathOfAPacketAllocatesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.events = make([]leg.Event, 0, 100_000)
	r.leg.Run(r.now, leg.Step{
		ID: "s", Playlist: []*clip.Clip{r.clip(1000, 1000)}, Background: r.clip(500, 7), After: time.Hour,
		Rule: &collector.Rule{First: collector.Never, Between: collector.Never},
	})
	data := make([]byte, 172)
	data[0] = 0x80
	d := packet.Datagram{Addr: sdp, Data: data}
	event := []byte{0x80, eventPT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 160}
	e := packet.Datagram{Addr: sdp, Data: event}
	seq := byte(0)
	if n := testing.AllocsPerRun(5000, func() {
		seq++
		data[3], event[3], event[6] = seq, seq+1, seq
		r.leg.Receive(r.now, &d)
		r.leg.Receive(r.now, &e)
		r.now += leg.Tick
		r.out.Reset()
		r.leg.Tick(r.now, r.out)
	}); n != 0 {
		t.Errorf("%v allocations for two packets and a tick", n)
	}
}
