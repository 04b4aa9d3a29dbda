package scenario

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

func signalling() []scenario {
	scenarios := []scenario{
		{name: "drop-default", play: func(s *stage) { drop(s, "", 603) }},
		{name: "unknown-number", play: unknownNumber},
		{name: "cancel", play: cancel},
		{name: "caller-hangs-up", play: callerHangsUp},
		{name: "hold-resume", play: holdResume},
		{name: "refresh", play: refresh},
		{name: "lossy-sip", play: lossySIP},
		{name: "repeated-sip", play: repeatedSIP},
		{name: "late-ack", play: lateACK},
		{name: "no-ack", play: noACK},
		{name: "no-common-codec", play: noCommonCodec},
		{name: "offer-with-video", play: offerWithVideo},
		{name: "options", play: options},
		{name: "strange-methods", play: strangeMethods},
		{name: "malformed", play: malformed},
		{name: "headers", play: headers},
		{name: "stranger-to-the-dialog", play: strangerToTheDialog},
		{name: "media-statistics", play: mediaStatistics},
	}
	for code, status := range map[string]int{
		"busy": 486, "error": 500, "numberNotFound": 404, "numberNotActive": 410, "dropNoMsg": 603, "temporarilyUnavailable": 480,
	} {
		scenarios = append(scenarios, scenario{name: "drop-" + code, play: func(s *stage) { drop(s, code, status) }})
	}
	return scenarios
}

func drop(s *stage, code string, status int) {
	answer := sink.Object{"action": "drop"}
	if code != "" {
		answer["dropCode"] = code
	}
	s.app.Script("newCall", sink.JSON(answer))
	s.phone(phone.Config{}).dial(phone.Options{}).refused(status)
	s.completed("drop")
	if n := len(s.app.All(sink.Of("getIvrCommand"))); n != 0 {
		s.Errorf("a dropped call asked for %d commands", n)
	}
}

func unknownNumber(s *stage) {
	h := s.phone(phone.Config{})
	for _, uri := range []string{"sip:+4699999@elsewhere.example", "sip:nobody@" + h.at, "sip:" + h.at} {
		c, err := h.Dial(uri, phone.Options{Proxy: h.at})
		s.must(err)
		(&line{Call: c, stage: s}).refused(404)
	}
	if got := s.app.Summary(); got != "none" {
		s.Errorf("the application was told: %s", got)
	}
}

func cancel(s *stage) {
	s.app.Script("newCall", s.app.Slow(time.Minute, sink.IVR()))
	l := s.phone(phone.Config{}).dial(phone.Options{})
	s.nth(1, "newCall")
	if status, err := l.Cancel(s.within(patience)); status != 487 || err != nil {
		s.Fatalf("cancelled call: %d %v", status, err)
	}
	done := s.completed("callingPartyDrop")
	s.becomes(done.Session(), "status", "cancel")
}

func callerHangsUp(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 20*time.Second)))
	l := s.call()
	l.hears(low)
	l.hangsUp()
	done := s.completed("callingPartyDrop")
	s.becomes(done.Session(), "status", "answer")
	if n := len(s.app.All(sink.Of("callEvent"))); n != 0 {
		s.Errorf("%d callEvents of a caller alone in the dialogue", n)
	}
}

// holdResume: held audio stops, and goes on after the resume.
func holdResume(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	l := s.call()
	l.hears(low)
	s.must(l.Hold(s.within(patience)))
	s.must(l.Audio.Silent(s.within(patience), 500*time.Millisecond))
	s.must(l.Resume(s.within(patience)))
	// What was buffered before the hold has been heard; fresh audio must come.
	before := l.Audio.Statistics().Packets
	s.eventually("audio after resume", func() bool { return l.Audio.Statistics().Packets > before+10 }, l.Audio.Summary)
	l.hears(low)
	l.hangsUp()
	s.completed("callingPartyDrop")
}

// refresh repeats the description, as session timers do: nothing changes.
func refresh(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	l := s.call()
	l.hears(low)
	remote := l.Audio.Remote()
	for range 3 {
		if status, err := l.Refresh(s.within(patience)); status != 200 || err != nil {
			s.Fatalf("re-INVITE: %d %v", status, err)
		}
	}
	if status, err := l.Reinvite(s.within(patience), nil); status != 200 || err != nil { // a late offer
		s.Fatalf("re-INVITE without SDP: %d %v", status, err)
	}
	if l.Audio.Remote() != remote {
		s.Errorf("the media address moved from %v to %v", remote, l.Audio.Remote())
	}
	l.hears(low)
	l.hangsUp()
}

// lossySIP loses half of what the phone sends and a third of what it gets.
func lossySIP(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(3261, 17))
	lose := func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64() < p
	}
	h := s.phone(phone.Config{
		T1: 100 * time.Millisecond,
		Fate: func(*phone.Message) phone.Fate {
			if lose(0.5) {
				return phone.Drop
			}
			return phone.Deliver
		},
		Lose: func(*phone.Message) bool { return lose(0.3) },
	})
	l := h.dial(phone.Options{})
	s.must(l.Answered(s.within(2 * patience)))
	l.hears(low)
	s.must(l.Hangup(s.within(2 * patience)))
	s.completed("callingPartyDrop")
	if n := len(s.app.All(sink.Of("newCall"))); n != 1 {
		s.Errorf("%d newCalls for one call", n)
	}
}

func repeatedSIP(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	h := s.phone(phone.Config{Fate: func(*phone.Message) phone.Fate { return phone.Twice }})
	l := h.dial(phone.Options{})
	l.answered()
	l.hears(low)
	l.hangsUp()
	s.completed("callingPartyDrop")
	if n := len(s.app.All(sink.Of("newCall"))); n != 1 {
		s.Errorf("%d newCalls for one call", n)
	}
}

// answers counts the 200s to INVITE that a phone receives.
func answers(n *atomic.Int32) func(*phone.Message) bool {
	return func(m *phone.Message) bool {
		if _, method := m.CSeq(); m.Status == 200 && method == "INVITE" {
			n.Add(1)
		}
		return false
	}
}

// lateACK acknowledges only the third 200: it must keep coming until then
// (RFC 3261 §13.3.1.4), and stop.
func lateACK(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	var n atomic.Int32
	l := s.phone(phone.Config{Lose: answers(&n)}).dial(phone.Options{KeepACK: true})
	l.answered()
	s.eventually("200 repeated", func() bool { return n.Load() >= 3 }, func() string { return fmt.Sprint(n.Load()) })
	l.ACK()
	l.hears(low)
	l.hangsUp()
	s.completed("callingPartyDrop")
}

// noACK never acknowledges: after 64*T1 callmesh must give up and say BYE.
func noACK(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 60*time.Second)))
	var n atomic.Int32
	l := s.phone(phone.Config{Lose: answers(&n)}).dial(phone.Options{KeepACK: true})
	l.answered()
	if _, err := l.Ended(s.within(45 * time.Second)); err != nil {
		s.Fatal(err)
	}
	// 0.5, 1.5, 3.5, then each 4 s up to 32 s: 10 repeats after the first.
	if got := n.Load(); got < 8 || got > 12 {
		s.Errorf("%d 200s in 32 s, want 11", got)
	}
	s.nth(1, "sessionCompleted")
}

func noCommonCodec(s *stage) {
	s.commands(bye())
	l := s.phone(phone.Config{}).dial(phone.Options{Change: func(m *phone.Message) {
		m.Body = []byte(strings.ReplaceAll(strings.ReplaceAll(string(m.Body), "RTP/AVP 0 8 101", "RTP/AVP 18"), "a=rtpmap:0 PCMU/8000", "a=rtpmap:18 G729/8000"))
	}})
	l.refused(488)
}

// offerWithVideo offers a second stream, which must be answered and refused:
// port 0, in its place (RFC 3264 §6).
func offerWithVideo(s *stage) {
	s.commands(bye(s.prompt("a.wav", low, 500*time.Millisecond)))
	l := s.phone(phone.Config{}).dial(phone.Options{Change: func(m *phone.Message) {
		m.Body = append(m.Body, "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"...)
	}})
	final, err := l.FinalMessage(s.within(patience))
	s.must(err)
	if !strings.Contains(string(final.Body), "\r\nm=video 0 ") {
		s.Errorf("answer: %s", final.Body)
	}
	l.hears(low)
	l.ends()
}

func options(s *stage) {
	h := s.phone(phone.Config{})
	r := h.request("OPTIONS", "sip:"+s.number()+"@"+s.domain.Name, "")
	if r.Status != 200 || !strings.Contains(r.Get("Allow"), "INVITE") || r.Get("Accept") == "" {
		s.Errorf("OPTIONS: %d, Allow %q, Accept %q", r.Status, r.Get("Allow"), r.Get("Accept"))
	}
}

// request sends a request outside of any dialog and returns the response.
func (h *handset) request(method, uri, extra string) *phone.Message {
	h.stage.Helper()
	id := fmt.Sprintf("%x", rand.Uint64())
	return h.raw(id, fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:tester@127.0.0.1>;tag=%s\r\nTo: <%s>\r\nCall-ID: %s\r\nCSeq: 1 %s\r\n%sContent-Length: 0\r\n\r\n",
		method, uri, h.Addr(), id, id, uri, id, method, extra))
}

// raw sends a message as it is and returns the final response with its Call-ID.
func (h *handset) raw(callID, text string) *phone.Message {
	h.stage.Helper()
	h.stage.must(h.Raw(h.at, []byte(text)))
	m, err := h.Await(h.stage.within(patience), func(m *phone.Message) bool { return m.Get("Call-ID") == callID && m.Status >= 200 })
	h.stage.must(err)
	return m
}

func strangeMethods(s *stage) {
	h := s.phone(phone.Config{})
	uri := "sip:" + s.number() + "@" + s.domain.Name
	for method, want := range map[string]int{"DANCE": 501, "SUBSCRIBE": 405, "BYE": 481, "INFO": 481} {
		if r := h.request(method, uri, ""); r.Status != want {
			s.Errorf("%s: %d, want %d", method, r.Status, want)
		} else if want == 405 && r.Get("Allow") == "" {
			s.Errorf("%s: 405 without Allow (RFC 3261 §21.4.6)", method)
		}
	}
}

// malformed sends requests that must be refused with the right code, and
// garbage that must be dropped; afterwards a call still works.
func malformed(s *stage) {
	h := s.phone(phone.Config{})
	uri := "sip:" + s.number() + "@" + s.domain.Name
	for name, tc := range map[string]struct {
		method, uri, extra string
		want               int
	}{
		"unknown extension": {"INVITE", uri, "Require: time-travel\r\n", 420},
		"unknown scheme":    {"INVITE", "nobodyKnowsThisScheme:x", "", 416},
		"unknown body":      {"INVITE", uri, "Content-Type: text/interpretive-dance\r\n", 415},
	} {
		extra := tc.extra + "Contact: <" + h.URI() + ">\r\n"
		if r := h.request(tc.method, tc.uri, extra); r.Status != tc.want {
			// An empty body of an unknown type may also be ignored, and 415 is for
			// bodies: send one.
			if tc.want != 415 {
				s.Errorf("%s: %d, want %d", name, r.Status, tc.want)
			}
		}
	}
	build := func(id, version, cseq, forwards, body string) string {
		return fmt.Sprintf("INVITE %s %s\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: %s\r\n"+
			"From: <sip:tester@127.0.0.1>;tag=%s\r\nTo: <%s>\r\nCall-ID: %s\r\nCSeq: %s\r\nContact: <%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
			uri, version, h.Addr(), id, forwards, id, uri, id, cseq, h.URI(), len(body), body)
	}
	for id, tc := range map[string]struct {
		text string
		want int
	}{
		"version":  {build("version", "SIP/7.0", "1 INVITE", "70", ""), 505},
		"method":   {build("method", "SIP/2.0", "1 OPTIONS", "70", ""), 400},
		"number":   {build("number", "SIP/2.0", "99999999999 INVITE", "70", ""), 400},
		"forwards": {build("forwards", "SIP/2.0", "1 INVITE", "0", ""), 483},
		"sdp":      {build("sdp", "SIP/2.0", "1 INVITE", "70", "v=0\r\nthis is no sdp\r\n"), 400},
	} {
		if r := h.raw(id, tc.text); r.Status != tc.want {
			s.Errorf("%s: %d %s, want %d", id, r.Status, r.Reason, tc.want)
		}
	}
	for _, junk := range []string{"", "\r\n\r\n", "\x00\x01\x02\x03\xff", "INVITE", "INVITE sip:x SIP/2.0\r\n", strings.Repeat("A", 60000), "SIP/2.0 200 OK\r\n\r\n"} {
		s.must(h.Raw(h.at, []byte(junk)))
	}
	s.commands(bye(s.prompt("a.wav", low, 400*time.Millisecond)))
	l := h.dial(phone.Options{})
	l.answered()
	l.hears(low)
	l.ends()
}

func headers(s *stage) {
	s.commands(bye())
	l := s.phone(phone.Config{}).dial(phone.Options{
		From: `"Anna, på kontoret" <sip:anonymous@anonymous.invalid>`,
		Headers: []phone.Header{
			{Name: "P-Asserted-Identity", Value: `"Anna" <sip:+46850510@carrier.example>`},
			{Name: "Privacy", Value: "id"}, {Name: "Subject", Value: "A question"},
			{Name: "Diversion", Value: "<sip:+4670999@carrier.example>;reason=user-busy"},
			{Name: "Referred-By", Value: "<sip:boss@carrier.example>"},
			{Name: "X-Campaign", Value: "winter"}, {Name: "X-Many", Value: "1"}, {Name: "X-Many", Value: "2"},
			{Name: "P-Charging-Vector", Value: "icid-value=1"},
		},
	})
	l.answered()
	l.ends()
	c := s.nth(1, "newCall")
	for field, want := range map[string]string{
		"callingParty": "+46850510", "displayName": "Anna", "fromUser": "anonymous", "callingPartyPrivacy": "secret",
		"paiNumber": "+46850510", "subject": "A question",
	} {
		if got := c.Text(field); got != want {
			s.Errorf("%s = %q, want %q", field, got, want)
		}
	}
	if x := c.Object("xHeaders"); x["X-Campaign"] != "winter" || fmt.Sprint(x["X-Many"]) != "[1 2]" {
		s.Errorf("xHeaders %v", x)
	}
	if p := c.Object("pHeaders"); p["P-Charging-Vector"] != "icid-value=1" {
		s.Errorf("pHeaders %v", p)
	}
	if !strings.Contains(c.Text("diversionHeaders"), "+4670999") || !strings.Contains(c.Text("referredBy"), "boss") {
		s.Errorf("diversionHeaders %q, referredBy %q", c.Text("diversionHeaders"), c.Text("referredBy"))
	}
}

// strangerToTheDialog: a BYE that only knows the Call-ID must not end the call.
func strangerToTheDialog(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	l := s.call()
	l.hears(low)
	other := s.phone(phone.Config{})
	bye := func(branch, from, to string) int {
		text := fmt.Sprintf("BYE sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
			"From: <sip:phone@127.0.0.1>;tag=%s\r\nTo: <sip:%s@%s>;tag=%s\r\nCall-ID: %s\r\nCSeq: 99 BYE\r\nContent-Length: 0\r\n\r\n",
			s.number(), s.domain.Name, other.Addr(), branch, from, s.number(), s.domain.Name, to, l.ID())
		return other.raw(l.ID(), text).Status
	}
	if status := bye("wrongtags", "x", "y"); status != 481 {
		s.Errorf("BYE with both tags wrong: %d", status)
	}
	if status := bye("wrongto", l.LocalTag(), "y"); status != 481 {
		s.Errorf("BYE with a wrong To tag: %d", status)
	}
	if status := bye("wrongfrom", "x", l.RemoteTag()); status != 481 {
		s.Errorf("BYE with a wrong From tag: %d", status)
	}
	l.hears(low)
	l.hangsUp()
	s.completed("callingPartyDrop")
}

// mediaStatistics: RTCP flows both ways, and callmesh sees the loss we make.
func mediaStatistics(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 60*time.Second)))
	l := s.call()
	l.hears(low)
	l.Audio.Impair(phone.Impairment{Loss: 0.3, Seed: 3550})
	s.eventually("RTCP that reports the loss", func() bool {
		sender, _, lost := l.Audio.Reports()
		return sender > 0 && lost > 0.1
	}, func() string { a, b, c := l.Audio.Reports(); return fmt.Sprint(a, b, c) })
	l.hangsUp()
}
