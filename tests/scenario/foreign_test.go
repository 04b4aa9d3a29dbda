package scenario

import (
	"context"
	"time"

	"github.com/callmesh/callmesh/tests/baresip"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
	"github.com/callmesh/callmesh/tests/sipp"
)

// foreign are calls by programs that are not ours.
func foreign() []scenario {
	scenarios := []scenario{
		{name: "baresip", play: callByBaresip},
		{name: "sipp-load", play: sippLoad},
	}
	for _, name := range sipp.Scenarios {
		scenarios = append(scenarios, scenario{name: "sipp-" + name, play: func(s *stage) { callBySIPp(s, name) }})
	}
	return scenarios
}

func callByBaresip(s *stage) {
	s.commands(
		ask(sink.Object{"maxDigits": 1, "firstTimeout": 10}, s.prompt("menu.wav", low, time.Second)),
		bye(s.prompt("choice.wav", middle, time.Second)),
	)
	ctx := s.within(4 * patience)
	b, err := baresip.Dial(ctx, s.TempDir(), "sip:"+s.number()+"@"+s.SIP(), high)
	s.must(err)
	s.must(b.Says(ctx, "Call established"))
	s.command(1)
	s.must(b.Press('7'))
	if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "7" {
		s.Errorf("dtmfParams: %v", params)
	}
	s.must(b.Says(ctx, "session closed"))
	heard, err := b.Quit()
	s.must(err)
	for _, f := range []float64{low, middle} {
		if length := phone.ToneLength(heard, f); length < 600*time.Millisecond || length > 1300*time.Millisecond {
			s.Errorf("baresip heard %v of the prompt of 1 s at %.0f Hz", length, f)
		}
	}
	s.completed("hangup")
}

func callBySIPp(s *stage, name string) {
	switch name {
	case "cancel":
		s.app.Script("newCall", s.app.Slow(time.Minute, sink.IVR()))
	case "retransmit":
		s.app.Script("newCall", s.app.Slow(1800*time.Millisecond, sink.IVR()))
		s.app.Script("getIvrCommand", sink.JSON(say(s.prompt("long.wav", low, 20*time.Second))))
	case "ivr":
		s.commands(ask(sink.Object{"maxDigits": 1}, s.prompt("menu.wav", low, time.Second)), bye(s.prompt("bye.wav", middle, 300*time.Millisecond)))
	case "lateoffer":
		s.commands(bye(s.prompt("bye.wav", middle, 300*time.Millisecond)))
	default:
		s.commands(say(s.prompt("long.wav", low, 20*time.Second)))
	}
	s.must(sipp.Run(s.within(4*patience), name, s.number(), s.SIP(), sipp.Options{Dir: s.TempDir()}))
	switch name {
	case "ivr":
		if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "1" {
			s.Errorf("dtmfParams: %v", params)
		}
		s.completed("hangup")
	case "retransmit":
		s.completed("callingPartyDrop")
		if n := len(s.app.All(sink.Of("newCall"))); n != 1 {
			s.Errorf("%d newCalls for one INVITE sent three times", n)
		}
	}
}

// sippLoad answers, prompts and completes a hundred calls, twenty a second.
func sippLoad(s *stage) {
	s.commands(bye(s.prompt("bye.wav", middle, 300*time.Millisecond)))
	s.must(sipp.Run(s.within(4*patience), "lateoffer", s.number(), s.SIP(), sipp.Options{Dir: s.TempDir(), Calls: 100, Rate: 20}))
	ctx, cancel := context.WithTimeout(s.Context(), 2*patience)
	defer cancel()
	if _, err := s.app.Await(ctx, 100, sink.Of("sessionCompleted")); err != nil {
		s.Error(err)
	}
}
