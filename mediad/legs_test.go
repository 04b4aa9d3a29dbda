package mediad_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/mediad/internal/clip"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// wantFault checks an error's reason and field.
func wantFault(t *testing.T, err error, reason fault.Reason, field string) {
	t.Helper()
	if f := fault.From(err); err == nil || f.Reason != reason || f.Field != field {
		t.Errorf("err = %v; want %s on %q", err, reason, field)
	}
}

func TestBargeInCutsWithinTwoTicks(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	in.call(t, p, "a")
	prompt := in.put(t, tone(440, 10*time.Second))
	in.run(t, "a", 1, &mediapb.Step{
		StepId: "s", Playlist: []string{prompt}, BargeIn: mediapb.BargeIn_BARGE_IN_ALL,
		Digits: &mediapb.DigitRule{MaxDigits: 1},
	})
	p.hear(10)
	pressed := time.Now()
	p.press("5", nil)
	for {
		if h := p.listen(); h.Payload[0] == 0xFF && h.Payload[1] == 0xFF {
			// Silence: the prompt is cut. A tone has no two such samples.
			if cut := h.at.Sub(pressed); cut > 40*time.Millisecond {
				t.Logf("cut after %v", cut) // a busy machine is no failure
			}
			break
		}
	}
	if r := events.result(); r.GetReason() != mediapb.StepResult_REASON_MAX_DIGITS || r.GetDigits() != "5" || r.GetPlayedAll() ||
		r.GetClipIndex() != 0 || r.GetClipPosition().AsDuration() < 180*time.Millisecond || r.GetClipPosition().AsDuration() > 5*time.Second {
		t.Errorf("result = %v", r)
	}
}

func TestDigitsThroughABadNetwork(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	in.call(t, p, "a")
	in.run(t, "a", 1, &mediapb.Step{StepId: "s", Digits: &mediapb.DigitRule{TerminationKeys: "#", FirstTimeout: seconds(5), BetweenTimeout: seconds(5)}})
	random := rand.New(rand.NewPCG(5, 6))
	network := newBadNetwork(t, p, rand.New(rand.NewPCG(7, 8)))
	const keys = "0123456789ABCD*00112299#"
	for _, k := range keys {
		kept := 0
		p.press(string(k), func() bool {
			// 20 % lost, but never all packets of a key: that is another test.
			keep := random.Float64() >= 0.2 || kept == 0
			if keep {
				kept++
			}
			return keep
		})
	}
	network.flush()
	if r := events.result(); r.GetDigits()+r.GetTerminationKey() != keys {
		t.Errorf("digits %q%q, want %q", r.GetDigits(), r.GetTerminationKey(), keys)
	}
}

// badNetwork stands between phone and mediad, doubles packets and lets
// neighbours overtake each other within an event.
type badNetwork struct {
	t      *testing.T
	conn   *net.UDPConn
	phone  *phone
	random *rand.Rand
	done   chan struct{}
}

// newBadNetwork takes the phone's place towards mediad.
func newBadNetwork(t *testing.T, p *phone, random *rand.Rand) *badNetwork {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &badNetwork{t: t, conn: conn, phone: p, random: random, done: make(chan struct{})}
	to := p.to
	p.to = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	go n.relay(func(data []byte) { _, _ = conn.WriteToUDPAddrPort(data, to) })
	t.Cleanup(func() { _ = conn.Close(); <-n.done })
	return n
}

func (n *badNetwork) relay(send func([]byte)) {
	defer close(n.done)
	var held []byte
	for {
		buffer := make([]byte, 1500)
		size, from, err := n.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if from != n.phone.addr() {
			continue // from mediad: nobody listens
		}
		data := buffer[:size]
		switch {
		case held == nil && n.random.Float64() < 0.2:
			held = data
			continue
		case held != nil && bytes.Equal(held[4:8], data[4:8]):
			send(data) // overtakes a packet of the same event
			send(held)
		case held != nil:
			send(held)
			send(data)
		default:
			send(data)
		}
		held = nil
		if n.random.Float64() < 0.2 {
			send(data)
		}
	}
}

// flush lets a held packet go: later ones do.
func (n *badNetwork) flush() {
	for range 3 {
		n.phone.audio()
	}
}

func TestGrants(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	in.call(t, p, "a")
	prompt := in.put(t, tone(440, 10*time.Second))
	in.run(t, "a", 1, &mediapb.Step{StepId: "s", Playlist: []string{prompt}})
	p.hear(3)
	if _, err := in.SetGrant(t.Context(), &mediapb.SetGrantRequest{LegId: "a", Grant: 2}); err != nil {
		t.Fatal(err)
	}
	if r := events.result(); r.GetReason() != mediapb.StepResult_REASON_REVOKED || r.GetClipPosition().AsDuration() < 60*time.Millisecond {
		t.Errorf("result = %v", r)
	}
	for { // what was on its way
		if _, ok := p.listenFor(100 * time.Millisecond); !ok {
			break
		}
	}
	_, err := in.RunStep(t.Context(), &mediapb.RunStepRequest{LegId: "a", Grant: 1, Controller: controller, Step: &mediapb.Step{StepId: "t", Playlist: []string{prompt}}})
	wantFault(t, err, fault.StaleGrant, "grant")
	_, err = in.StopStep(t.Context(), &mediapb.StopStepRequest{LegId: "a", Grant: 1})
	wantFault(t, err, fault.StaleGrant, "grant")
	_, err = in.SetGrant(t.Context(), &mediapb.SetGrantRequest{LegId: "a", Grant: 1})
	wantFault(t, err, fault.StaleGrant, "grant")
	in.run(t, "a", 2, &mediapb.Step{StepId: "u", Playlist: []string{prompt}})
	p.listen()
	if r, err := in.GetLeg(t.Context(), &mediapb.GetLegRequest{LegId: "a"}); err != nil || r.GetStepId() != "u" || r.GetGrant() != 2 {
		t.Errorf("leg = %v, %v", r, err)
	}
	if r, err := in.StopStep(t.Context(), &mediapb.StopStepRequest{LegId: "a", Grant: 2, StepId: "u"}); err != nil || !r.GetStopped() {
		t.Errorf("stop = %v, %v", r, err)
	}
	if r := events.result(); r.GetStepId() != "u" || r.GetReason() != mediapb.StepResult_REASON_INTERRUPTED {
		t.Errorf("result = %v", r)
	}
	if r, err := in.StopStep(t.Context(), &mediapb.StopStepRequest{LegId: "a", Grant: 2, StepId: "u"}); err != nil || r.GetStopped() {
		t.Errorf("second stop = %v, %v", r, err)
	}
}

func TestMissingClipsAndTheirUpload(t *testing.T) {
	in := start(t, func(c *mediad.Config) { c.MaxClip = 100_000 })
	p := newPhone(t)
	in.call(t, p, "a")
	raw := tone(440, time.Second)
	absent := clip.ID(raw)
	r, err := in.RunStep(t.Context(), &mediapb.RunStepRequest{LegId: "a", Grant: 1, Controller: controller, Step: &mediapb.Step{StepId: "s", Playlist: []string{absent, absent}}})
	if err != nil || len(r.GetMissingClips()) != 1 || r.GetMissingClips()[0] != absent {
		t.Fatalf("%v, %v", r, err)
	}
	in.put(t, raw)
	in.put(t, raw) // again is fine
	in.run(t, "a", 1, &mediapb.Step{StepId: "s", Playlist: []string{absent, absent}})
	p.listen()

	put := func(id string, samples []byte) error {
		stream, err := in.PutClip(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(samples); n += 50_000 {
			if stream.Send(&mediapb.PutClipRequest{ClipId: id, Samples: samples[n:min(n+50_000, len(samples))]}) != nil {
				break
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	}
	wantFault(t, put(absent, raw[2:]), fault.BadRequest, "clip_id")
	wantFault(t, put(clip.ID(raw[:7]), raw[:7]), fault.BadRequest, "samples")
	large := tone(440, 10*time.Second)
	wantFault(t, put(clip.ID(large), large), fault.TooLarge, "samples")
}

func TestTheCodecMayChangeDuringAPrompt(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	in.call(t, p, "a")
	in.run(t, "a", 1, &mediapb.Step{StepId: "s", Playlist: []string{in.put(t, tone(440, 10*time.Second))}})
	before := p.listen()
	if _, err := in.UpdateLeg(t.Context(), &mediapb.UpdateLegRequest{LegId: "a", Description: p.describe("PCMA", "PCMU")}); err != nil {
		t.Fatal(err)
	}
	last := before
	for {
		h := p.listen()
		if h.SSRC != before.SSRC || h.Sequence != last.Sequence+1 || h.Timestamp != last.Timestamp+160 {
			t.Fatalf("stream broken: %+v after %+v", h.Packet, last.Packet)
		}
		last = h
		if h.PayloadType == 8 {
			break
		}
	}
	if l := level(p.hear(20), 440); l < 0.9 {
		t.Errorf("440 Hz in A-law: %.2f", l)
	}
}

func TestCreateAgainIsTheSameLeg(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	request := &mediapb.CreateLegRequest{LegId: "a", SessionId: "s", Controller: controller, Description: p.describe()}
	var wg sync.WaitGroup
	ports := make([]uint32, 8)
	for i := range ports {
		wg.Go(func() {
			r, err := in.CreateLeg(t.Context(), request)
			if err != nil {
				t.Error(err)
				return
			}
			ports[i] = r.GetLocalPort()
		})
	}
	wg.Wait()
	for _, port := range ports {
		if port != ports[0] || port == 0 || port%2 != 0 {
			t.Errorf("ports %v", ports)
		}
	}
	if legs := in.gauge(t, "callmesh_mediad_legs"); legs != 1 {
		t.Errorf("%v legs", legs)
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	in.call(t, p, "a")
	describe := func(change func(*mediapb.Description)) *mediapb.Description {
		d := p.describe()
		change(d)
		return d
	}
	create := func(d *mediapb.Description) error {
		_, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: "b", SessionId: "s", Controller: controller, Description: d})
		return err
	}
	step := func(s *mediapb.Step) error {
		_, err := in.RunStep(t.Context(), &mediapb.RunStepRequest{LegId: "a", Grant: 1, Controller: controller, Step: s})
		return err
	}
	call := func(_ any, err error) error { return err }
	for _, tt := range []struct {
		err    error
		reason fault.Reason
		field  string
	}{
		{create(nil), fault.BadRequest, "description"},
		{create(describe(func(d *mediapb.Description) { d.Codecs = nil })), fault.BadRequest, "description.codecs"},
		{create(describe(func(d *mediapb.Description) { d.Codecs[0].Name = "opus" })), fault.BadRequest, "description.codecs"},
		{create(describe(func(d *mediapb.Description) { d.Codecs[0].PayloadType = 200 })), fault.BadRequest, "description.codecs"},
		{create(describe(func(d *mediapb.Description) { d.RemoteAddress = "example.org" })), fault.BadRequest, "description.remote_address"},
		{create(describe(func(d *mediapb.Description) { d.RemoteAddress = "224.0.0.1" })), fault.BadRequest, "description.remote_address"},
		{create(describe(func(d *mediapb.Description) { d.RemotePort = 70000 })), fault.BadRequest, "description.remote_port"},
		{create(describe(func(d *mediapb.Description) { d.Direction = 9 })), fault.BadRequest, "description.direction"},
		{call(in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: "b", SessionId: "s", Controller: controller, Ipv6: true, Description: p.describe()})), fault.BadRequest, "ipv6"},
		{call(in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{SessionId: "s", Controller: controller, Description: p.describe()})), fault.BadRequest, "leg_id"},
		{call(in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: "b", Controller: controller, Description: p.describe()})), fault.BadRequest, "session_id"},
		{step(&mediapb.Step{}), fault.BadRequest, "step.step_id"},
		{step(&mediapb.Step{StepId: "s", BargeIn: 9}), fault.BadRequest, "step.barge_in"},
		{step(&mediapb.Step{StepId: "s", Digits: &mediapb.DigitRule{TerminationKeys: "x"}}), fault.BadRequest, "step.digits.termination_keys"},
		{step(&mediapb.Step{StepId: "s", Digits: &mediapb.DigitRule{FirstTimeout: seconds(-1)}}), fault.BadRequest, "step.digits.first_timeout"},
		{step(&mediapb.Step{StepId: "s", Playlist: make([]string, 1000)}), fault.BadRequest, "step.playlist"},
		{call(in.InjectDigit(t.Context(), &mediapb.InjectDigitRequest{LegId: "a", Digit: "12"})), fault.BadRequest, "digit"},
		{call(in.SendDigits(t.Context(), &mediapb.SendDigitsRequest{LegId: "a", Digits: "1x"})), fault.BadRequest, "digits"},
		{call(in.SendDigits(t.Context(), &mediapb.SendDigitsRequest{LegId: "a", Digits: "1", Duration: seconds(100)})), fault.BadRequest, "duration"},
		{call(in.UpdateLeg(t.Context(), &mediapb.UpdateLegRequest{LegId: "x", Description: p.describe()})), fault.LegNotFound, "leg_id"},
		{call(in.GetLeg(t.Context(), &mediapb.GetLegRequest{LegId: "x"})), fault.LegNotFound, "leg_id"},
	} {
		wantFault(t, tt.err, tt.reason, tt.field)
	}
	if r, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: "x"}); err != nil || r.GetStatistics() != nil {
		t.Errorf("closing a leg that is gone: %v, %v", r, err)
	}
}

func TestAnUnattendedLegIsReaped(t *testing.T) {
	in := start(t, func(c *mediad.Config) { c.Unattended = 200 * time.Millisecond })
	p := newPhone(t)
	in.call(t, p, "a")
	events := in.watch(t, controller, &mediapb.Cursor{LegId: "a"})
	if r := events.next().GetReady(); r == nil || len(r.GetUnknownLegs()) != 0 {
		t.Fatal("not ready")
	}
	in.call(t, p, "b")
	other := in.watch(t, "other", &mediapb.Cursor{LegId: "b"})
	if other.next().GetReady() == nil {
		t.Fatal("not ready")
	}
	if _, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: "lone", SessionId: "s", Controller: "nobody", Description: p.describe()}); err != nil {
		t.Fatal(err)
	}
	until(t, "the lone leg's end", func() bool { return in.gauge(t, "callmesh_mediad_legs") == 2 })
	if _, err := in.GetLeg(t.Context(), &mediapb.GetLegRequest{LegId: "a"}); err != nil {
		t.Errorf("an attended leg: %v", err)
	}
}

func TestASuccessorTakesTheResultOver(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	in.call(t, p, "a")
	if _, err := in.RunStep(t.Context(), &mediapb.RunStepRequest{LegId: "a", Grant: 1, Controller: "ivrd-1", Step: &mediapb.Step{StepId: "s", Digits: &mediapb.DigitRule{MaxDigits: 1}}}); err != nil {
		t.Fatal(err)
	}
	// ivrd-1 is dead; the key comes while nobody watches.
	p.press("8", nil)
	until(t, "the step's end", func() bool {
		r, err := in.GetLeg(t.Context(), &mediapb.GetLegRequest{LegId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStepId() == ""
	})
	successor := in.watch(t, "ivrd-2", &mediapb.Cursor{LegId: "a"}, &mediapb.Cursor{LegId: "gone"})
	if r := successor.next().GetReady(); len(r.GetUnknownLegs()) != 1 || r.GetUnknownLegs()[0] != "gone" {
		t.Errorf("ready = %v", r)
	}
	if e := successor.next(); e.GetDigit().GetDigit() != "8" || e.GetSequence() != 1 || e.GetSessionId() != "s-a" || e.GetParticipantId() != "p-a" {
		t.Errorf("first event = %v", e)
	}
	if r := successor.result(); r.GetStepId() != "s" || r.GetDigits() != "8" {
		t.Errorf("result = %v", r)
	}
}

func TestDigitsGoOut(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	in.call(t, p, "a")
	if _, err := in.SendDigits(t.Context(), &mediapb.SendDigitsRequest{LegId: "a", Digits: "42"}); err != nil {
		t.Fatal(err)
	}
	got := ""
	for range 14 {
		h := p.listen()
		if h.PayloadType != 101 {
			t.Fatalf("payload type %d", h.PayloadType)
		}
		if h.Marker {
			got += fmt.Sprint(h.Payload[0])
		}
	}
	if got != "42" {
		t.Errorf("events %q", got)
	}
}
