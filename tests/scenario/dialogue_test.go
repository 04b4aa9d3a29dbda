package scenario

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// The frequencies of the scenarios' prompts, far enough apart to be told from
// each other in 20 ms.
const (
	low    = 440
	middle = 880
	high   = 1350
	top    = 1900
)

// say is a command that plays phrases.
func say(phrases ...sink.Object) sink.Object { return sink.Object{"phrases": phrases} }

// ask is a command that plays phrases and collects digits.
func ask(dtmf sink.Object, phrases ...sink.Object) sink.Object {
	return sink.Object{"phrases": phrases, "dtmf": dtmf}
}

// with adds a field to a command.
func with(command sink.Object, field string, value any) sink.Object {
	command[field] = value
	return command
}

// bye plays phrases and hangs up.
func bye(phrases ...sink.Object) sink.Object { return with(say(phrases...), "hangup", true) }

// commands scripts a dialogue: newCall leads to the IVR, then one command
// after the other.
func (s *stage) commands(commands ...sink.Object) {
	answers := make([]sink.Answer, len(commands))
	for i, c := range commands {
		answers[i] = sink.JSON(c)
	}
	s.app.Script("newCall", sink.IVR())
	s.app.Script("getIvrCommand", answers...)
}

func dialogues() []scenario {
	scenarios := []scenario{
		{name: "menu-late-offer", play: func(s *stage) { menu(s, phone.Config{}, phone.Options{LateOffer: true}) }},
		{name: "phrases-in-order", play: phrasesInOrder},
		{name: "phrase-by-url", play: phraseByURL},
		{name: "missing-prompt", play: missingPrompt},
		{name: "command-after", play: commandAfter},
		{name: "interrupt", play: interrupt},
		{name: "bargein-none", play: bargeInNone},
		{name: "bargein-current", play: bargeInCurrent},
		{name: "bargein-all", play: bargeInAll},
		{name: "nothing-to-do", play: nothingToDo},
		{name: "reference", play: reference},
	}
	for _, transport := range []string{"udp", "tcp"} {
		for _, codec := range []phone.Codec{phone.PCMU, phone.PCMA} {
			scenarios = append(scenarios, scenario{
				name: "menu-" + transport + "-" + strings.ToLower(codec.Name),
				play: func(s *stage) {
					menu(s, phone.Config{Transport: transport, Codecs: []phone.Codec{codec}}, phone.Options{})
				},
			})
		}
	}
	return scenarios
}

// menu is the story the product is about: a call comes in, a menu is heard, a
// key is pressed, the choice is heard, and callmesh hangs up.
func menu(s *stage, cfg phone.Config, options phone.Options) {
	s.commands(
		ask(sink.Object{"maxDigits": 1, "firstTimeout": 10}, s.prompt("menu.wav", low, 700*time.Millisecond)),
		bye(s.prompt("choice.wav", middle, 500*time.Millisecond)),
	)
	cfg.User = "+46701234567"
	h := s.phone(cfg)
	l := h.dial(options)
	l.answered()

	call := s.nth(1, "newCall")
	if call.Text("callingParty") != cfg.User || call.Text("calledParty") != s.number() || call.Text("sipCallId") != l.ID() ||
		call.Text("srcAddr") != "127.0.0.1" || call.Text("callingPartyPrivacy") != "public" {
		s.Errorf("newCall: %s", call.Raw)
	}
	l.hears(low)
	live := s.session(call.Session())
	if live["status"] != "connected" || live["direction"] != "incoming" || live["callEndTime"] != nil || live["callAnswerTime"] == nil {
		s.Errorf("live session: %v", live)
	}
	l.press("1")
	params := s.command(2).Object("dtmfParams")
	if params["dtmfMatch"] != "1" || params["reason"] != "maxDigits" {
		s.Errorf("dtmfParams: %v", params)
	}
	if s.command(1).Body["dtmfParams"] != nil {
		s.Error("the first command has dtmfParams")
	}
	l.hears(middle)
	l.ends()
	s.completed("hangup")
	past := s.becomes(call.Session(), "status", "answer")
	if past["callEndTime"] == nil || past["token"] != token(call.Session()) {
		s.Errorf("past session: %v", past)
	}
	if st := l.Audio.Statistics(); st.Lost != 0 || st.Duplicates != 0 || st.Late != 0 || st.Sources != 1 {
		s.Errorf("RTP on the loopback: %+v", st)
	}
	if got := l.heard(middle); got < 400*time.Millisecond || got > 700*time.Millisecond {
		s.Errorf("heard %v of a prompt of 500 ms", got)
	}
	s.app.All(func(c *sink.Callback) bool {
		if c.Text("traceId") != call.Text("traceId") {
			s.Errorf("%s has another traceId", c.Kind)
		}
		return false
	})
}

func phrasesInOrder(s *stage) {
	s.commands(bye(
		s.prompt("a.wav", low, 400*time.Millisecond), s.prompt("b.wav", middle, 400*time.Millisecond),
		s.prompt("c.wav", high, 400*time.Millisecond), sink.File("a.wav"),
	))
	l := s.call()
	for _, f := range []float64{low, middle, high, low} {
		l.hears(f)
	}
	l.ends()
}

func phraseByURL(s *stage) {
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		_, _ = w.Write(phone.WAV(phone.Tone(high, 500*time.Millisecond)))
	}))
	s.Cleanup(files.Close)
	s.commands(bye(sink.Object{"format": "url", "url": files.URL + "/hello.wav"}))
	l := s.call()
	l.hears(high)
	l.ends()
}

func missingPrompt(s *stage) {
	s.commands(bye(sink.File("gone.wav"), s.prompt("here.wav", middle, 500*time.Millisecond)))
	l := s.call()
	l.hears(middle)
	l.ends()
	s.alarm("ivrCommandError", "phraseError")
	s.completed("hangup")
}

func commandAfter(s *stage) {
	s.commands(with(say(s.prompt("a.wav", low, 400*time.Millisecond)), "getIVRCommandAfter", 1), bye())
	l := s.call()
	l.hears(low)
	if gap := s.command(2).At.Sub(s.command(1).At); gap < 1300*time.Millisecond || gap > 4*time.Second {
		s.Errorf("asked again after %v, want the prompt and 1 s", gap)
	}
	l.ends()
}

func interrupt(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 20*time.Second)), bye(s.prompt("short.wav", middle, 400*time.Millisecond)))
	l := s.call()
	l.hears(low)
	running := s.command(1)
	if !s.post("interruptivrcommand", sink.Object{"replyId": running.Text("replyId"), "sessionId": running.Session()}) {
		s.Error("interruptivrcommand refused")
	}
	s.command(2)
	l.hears(middle)
	l.ends()
	if got := l.heard(low); got > 5*time.Second {
		s.Errorf("the interrupted prompt sounded for %v", got)
	}
	if s.post("interruptivrcommand", sink.Object{"replyId": running.Text("replyId"), "sessionId": running.Session()}) {
		s.Error("a command that is over was interrupted")
	}
}

// bargeIn plays 3 s of one prompt and a short other, and presses a key in the
// middle of the first.
func bargeIn(s *stage, mode string) *line {
	command := ask(sink.Object{"maxDigits": 1},
		s.prompt("first.wav", low, 3*time.Second), s.prompt("second.wav", middle, 500*time.Millisecond))
	if mode != "" {
		command["bargeIn"] = mode
	}
	s.commands(command, bye(s.prompt("after.wav", high, 400*time.Millisecond)))
	l := s.call()
	l.hears(low)
	l.press("5")
	l.hears(high)
	l.ends()
	if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "5" || params["reason"] != "maxDigits" {
		s.Errorf("dtmfParams: %v", params)
	}
	return l
}

func bargeInNone(s *stage) {
	l := bargeIn(s, "")
	if first, second := l.heard(low), l.heard(middle); first < 2900*time.Millisecond || second < 400*time.Millisecond {
		s.Errorf("without barge-in heard %v and %v, want 3 s and 0.5 s", first, second)
	}
}

func bargeInCurrent(s *stage) {
	l := bargeIn(s, "current")
	if first, second := l.heard(low), l.heard(middle); first > 2*time.Second || second < 400*time.Millisecond {
		s.Errorf("with barge-in of the current phrase heard %v and %v, want the first cut and the second whole", first, second)
	}
}

func bargeInAll(s *stage) {
	l := bargeIn(s, "all")
	if first, second := l.heard(low), l.heard(middle); first > 2*time.Second || second > 0 {
		s.Errorf("with barge-in of all heard %v and %v, want both cut", first, second)
	}
}

// nothingToDo checks the guard against applications that answer {}: asked
// again after a second, not at once (contract §1.8.4).
func nothingToDo(s *stage) {
	s.commands(sink.Object{}, sink.Object{"hangup": true})
	l := s.call()
	if gap := s.command(2).At.Sub(s.command(1).At); gap < 900*time.Millisecond {
		s.Errorf("asked again after %v", gap)
	}
	l.ends()
}

// reference checks that sessionReferenceId is echoed to the byte: numbers
// beyond 2^53, order and nesting included.
func reference(s *stage) {
	const one, two = `{"z":123456789012345678901,"a":[1,2.50,null],"u":"å"}`, `"plain"`
	s.app.Script("newCall", sink.Text(http.StatusOK, "application/json", `{"action":"ivr","sessionReferenceId":`+one+`}`))
	s.app.Script("getIvrCommand",
		sink.Text(http.StatusOK, "application/json", `{"getIVRCommandAfter":0.2}`),
		sink.Text(http.StatusOK, "application/json", `{"hangup":true,"sessionReferenceId":`+two+`}`))
	s.call().ends()
	echoed := func(c *sink.Callback) string {
		var body struct {
			SessionReferenceID json.RawMessage `json:"sessionReferenceId"`
		}
		s.must(json.Unmarshal(c.Raw, &body))
		return string(body.SessionReferenceID)
	}
	if got := echoed(s.command(1)); got != one {
		s.Errorf("first echo %s", got)
	}
	if got := echoed(s.command(2)); got != one {
		s.Errorf("second echo %s", got)
	}
	if got := echoed(s.nth(1, "sessionCompleted")); got != two {
		s.Errorf("last echo %s", got)
	}
}
