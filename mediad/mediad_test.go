package mediad_test

import (
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAPromptIsHeardAndADigitServes(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	if events.next().GetReady() == nil {
		t.Fatal("the watch does not begin with Ready")
	}
	in.call(t, p, "a")
	low, high := in.put(t, tone(440, 200e6)), in.put(t, tone(1000, 200e6))
	in.run(t, "a", 1, &mediapb.Step{
		StepId: "menu", Playlist: []string{low, high},
		Digits: &mediapb.DigitRule{MaxDigits: 4, TerminationKeys: "#", FirstTimeout: seconds(5), BetweenTimeout: seconds(3)},
	})
	first := p.listen()
	if !first.Marker || first.PayloadType != 0 || first.from != p.to {
		t.Errorf("first packet: marker %v, payload type %d, from %v, want from %v", first.Marker, first.PayloadType, first.from, p.to)
	}
	if l := level(p.hear(9), 440); l < 0.9 {
		t.Errorf("440 Hz in the first clip: %.2f", l)
	}
	if l := level(p.hear(10), 1000); l < 0.9 {
		t.Errorf("1000 Hz in the second clip: %.2f", l)
	}
	random := rand.New(rand.NewPCG(1, 2))
	p.press("42#", func() bool { return random.Float64() >= 0.2 })
	r := events.result()
	if r.GetReason() != mediapb.StepResult_REASON_TERMINATION_KEY || r.GetDigits() != "42" || r.GetTerminationKey() != "#" || !r.GetPlayedAll() {
		t.Errorf("result = %v", r)
	}
	closed, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: "a"})
	if err != nil || closed.GetStatistics().GetPacketsSent() < 20 || closed.GetStatistics().GetPacketsReceived() < 10 {
		t.Errorf("closed: %v, %v", closed, err)
	}
}
