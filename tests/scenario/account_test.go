package scenario

import (
	"sync"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

func accounts() []scenario {
	return []scenario{
		{name: "many-at-once", play: manyAtOnce},
		{name: "mixed-fates", play: mixedFates},
		{name: "order", play: order},
	}
}

// order: the callbacks of a session come in the order of what happened.
func order(s *stage) {
	s.commands(sink.Object{"getIVRCommandAfter": 0.1}, sink.Object{"getIVRCommandAfter": 0.1}, bye())
	s.call().ends()
	s.completed("hangup")
	var kinds []string
	for _, c := range s.app.All(func(c *sink.Callback) bool { return c.Kind != "callNotify" && c.Kind != "callAnswered" }) {
		kinds = append(kinds, c.Kind)
	}
	want := []string{"newCall", "getIvrCommand", "getIvrCommand", "getIvrCommand", "sessionCompleted"}
	if len(kinds) != len(want) {
		s.Fatalf("callbacks: %v", kinds)
	}
	for i := range want {
		if kinds[i] != want[i] {
			s.Fatalf("callbacks: %v, want %v", kinds, want)
		}
	}
}

// manyAtOnce: twenty calls of one domain at the same time, each with its own
// digits, none mixed up.
func manyAtOnce(s *stage) {
	s.commands(ask(sink.Object{"maxDigits": 3}, s.prompt("ask.wav", low, 300*time.Millisecond)), bye())
	h := s.phone(phone.Config{})
	var calls sync.WaitGroup
	for i := range 20 {
		keys := string([]byte{'1' + byte(i/10), '0' + byte(i%10), '#'})
		c, err := h.Dial("sip:"+s.number()+"@"+s.domain.Name, phone.Options{Proxy: h.at, Headers: []phone.Header{{Name: "X-Keys", Value: keys}}})
		s.must(err)
		calls.Go(func() {
			ctx := s.within(2 * patience)
			if err := c.Answered(ctx); err != nil {
				s.Error(err)
				return
			}
			if err := c.Audio.Hear(ctx, low); err != nil {
				s.Error(err)
				return
			}
			if _, err := c.Audio.Press(ctx, keys); err != nil {
				s.Error(err)
				return
			}
			if _, err := c.Ended(ctx); err != nil {
				s.Error(err)
			}
		})
	}
	calls.Wait()
	for _, c := range s.app.All(sink.Of("newCall")) {
		want := c.Object("xHeaders")["X-Keys"]
		answer, err := s.app.Await(s.within(patience), 2, sink.Of("getIvrCommand").In(c.Session()))
		s.must(err)
		if got := answer.Object("dtmfParams")["dtmfMatch"]; got != want {
			s.Errorf("session %s got %v, want %v", c.Session(), got, want)
		}
	}
}

// mixedFates: calls that end in every way, one after the other and together;
// settle counts that each is accounted for once.
func mixedFates(s *stage) {
	s.app.Script("newCall", sink.Dynamic(func(c *sink.Callback) any {
		if c.Object("xHeaders")["X-Fate"] == "drop" {
			return sink.Object{"action": "drop", "dropCode": "busy"}
		}
		return sink.Object{"action": "ivr"}
	}))
	s.app.Script("getIvrCommand", sink.JSON(say(s.prompt("long.wav", low, 20*time.Second))))
	h := s.phone(phone.Config{})
	fates := []string{"drop", "hangup", "bye-at-once", "drop", "hangup", "bye-at-once"}
	var calls sync.WaitGroup
	for _, fate := range fates {
		c, err := h.Dial("sip:"+s.number()+"@"+s.domain.Name, phone.Options{Proxy: h.at, Headers: []phone.Header{{Name: "X-Fate", Value: fate}}})
		s.must(err)
		calls.Go(func() {
			ctx := s.within(2 * patience)
			status, err := c.Final(ctx)
			switch {
			case err != nil:
				s.Error(err)
			case fate == "drop":
				if status != 486 {
					s.Errorf("dropped with %d", status)
				}
			case fate == "hangup":
				if err := c.Audio.Hear(ctx, low); err != nil {
					s.Error(err)
				}
				fallthrough
			default:
				if err := c.Hangup(ctx); err != nil {
					s.Error(err)
				}
			}
		})
	}
	calls.Wait()
	if _, err := s.app.Await(s.within(patience), len(fates), sink.Of("sessionCompleted")); err != nil {
		s.Error(err)
	}
}
