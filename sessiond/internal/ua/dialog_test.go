package ua

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/tag"
)

func TestReinvite(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t, slow)
		p := dial(t, r.ua, transport)
		i, inv, ok := talking(t, r, p)

		re := p.within("INVITE", inv, ok)
		re.body, re.contentType = strings.Replace(offerSDP, "4000", "4002", 1), "application/sdp"
		p.send(re)
		p.expect(100)
		e := r.expect("reoffered")
		if string(e.re.Offer) != re.body || e.leg != i.Leg() || e.re.Dialog.RemoteCSeq != uint32(re.seq) {
			t.Errorf("%+v", e.re)
		}
		over := p.within("INVITE", inv, ok)
		over.body, over.contentType = offerSDP, "application/sdp"
		p.send(over)
		late := p.expect(500) // §14.2: one at a time
		if late.Value("retry-after") == "" && !strings.Contains(late.StartLine, "Overlapping") {
			t.Errorf("%v", late)
		}
		p.ack(over, late)
		d, err := e.re.Accept([]byte(offerSDP))
		if err != nil {
			t.Fatal(err)
		}
		if d.RemoteSDP != re.body {
			t.Errorf("dialog %+v", d)
		}
		p.send(p.within("ACK", re, p.expect(200)))
		r.expect("acked")

		// Refused: the call goes on.
		re = p.within("INVITE", inv, ok)
		re.body, re.contentType = offerSDP, "application/sdp"
		p.send(re)
		if err := r.expect("reoffered").re.Reject(488, "Not Acceptable Here"); err != nil {
			t.Fatal(err)
		}
		p.ack(re, p.expect(488))

		// Taken back.
		re = p.within("INVITE", inv, ok)
		re.body, re.contentType = offerSDP, "application/sdp"
		p.send(re)
		e = r.expect("reoffered")
		cancel := *re
		cancel.method, cancel.body = "CANCEL", ""
		p.send(&cancel)
		p.expect(200)
		p.ack(re, p.expect(487))
		if _, err := e.re.Accept(nil); !errors.Is(err, ErrCancelled) {
			t.Errorf("Accept after CANCEL: %v", err)
		}

		// Without an offer; until its answer comes, another one is glare.
		re = p.within("INVITE", inv, ok)
		p.send(re)
		if _, err := r.expect("reoffered").re.Accept([]byte(offerSDP)); err != nil {
			t.Fatal(err)
		}
		ok2 := p.expect(200)
		glare := p.within("INVITE", inv, ok)
		p.send(glare)
		p.ack(glare, p.expect(491))
		ack := p.within("ACK", re, ok2)
		ack.body, ack.contentType = offerSDP, "application/sdp"
		p.send(ack)
		if e := r.expect("acked"); string(e.answer) != offerSDP {
			t.Errorf("answer %q", e.answer)
		}
		p.send(p.within("BYE", inv, ok))
		p.expect(200)
		r.expect("bye")
	})
}

func TestTargetRefresh(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	i, inv, ok := talking(t, r, p)
	q := dial(t, r.ua, "udp") // the phone moves
	q.callID, q.seq = p.callID, p.seq
	re := q.within("INVITE", inv, ok)
	re.branch = q.branch() + "q"
	q.send(re)
	e := r.expect("reoffered")
	if !strings.Contains(e.re.Dialog.RemoteTarget, q.local) || e.re.Dialog.Source != q.local {
		t.Errorf("%+v", e.re.Dialog)
	}
	if _, err := e.re.Accept([]byte(offerSDP)); err != nil {
		t.Fatal(err)
	}
	q.send(q.within("ACK", re, q.expect(200)))
	r.expect("acked")
	d, _ := r.ua.Dialog(i.Leg())
	done := make(chan error, 1)
	go func() { done <- r.ua.Bye(t.Context(), &d) }()
	q.reply(q.expectRequest("BYE"), "481 Gone")
	if err := <-done; err != nil {
		t.Errorf("481 to BYE: %v", err)
	}
}

func TestInDialogOrder(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	_, inv, ok := talking(t, r, p)
	opts := p.within("OPTIONS", inv, ok)
	p.send(opts)
	if m := p.expect(200); m.Value("allow") == "" || m.Value("accept") == "" {
		t.Errorf("%v", m.Fields)
	}
	p.send(opts)
	p.expect(200) // a retransmission

	old := p.within("INFO", inv, ok)
	old.seq = inv.seq
	p.send(old)
	p.expect(500)

	stranger := p.within("BYE", inv, ok)
	stranger.from = "<sip:mallory@127.0.0.1>;tag=other"
	p.send(stranger)
	p.expect(481)

	guess := p.within("BYE", inv, ok)
	guess.to = "<sip:1000@127.0.0.1>;tag=" + strings.Repeat("a", tag.Length)
	p.send(guess)
	p.expect(481)
	if len(r.events) > 0 {
		t.Errorf("told %v", <-r.events)
	}
	p.send(p.within("BYE", inv, ok))
	p.expect(200)
	r.expect("bye")
}

func TestDigitsByINFO(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	i, inv, ok := talking(t, r, p)
	for _, c := range []struct {
		kind, body string
		code       int
		digit      string
		d          time.Duration
	}{
		{"application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", 200, "5", 160 * time.Millisecond},
		{"application/dtmf-relay", "Signal= *\nDuration= x", 200, "*", usualDigit},
		{"Application/DTMF-Relay; charset=x", "signal=11\r\nduration=999999\r\n", 200, "#", longestDigit},
		{"application/dtmf", "d", 200, "D", usualDigit},
		{"application/dtmf", "Signal=7", 200, "7", usualDigit},
		{"application/dtmf-relay", "Signal=55", 400, "", 0},
		{"application/dtmf-relay", "Signal=\r\n", 400, "", 0},
		{"text/plain", "hello", 415, "", 0},
	} {
		m := p.within("INFO", inv, ok)
		m.body, m.contentType = c.body, c.kind
		p.send(m)
		p.expect(c.code)
		if c.digit == "" {
			continue
		}
		if e := r.expect("digit"); e.text != c.digit || e.d != c.d || e.leg != i.Leg() {
			t.Errorf("%q: %+v", c.body, e)
		}
		p.send(m) // the same digit again is a retransmission
		p.expect(200)
	}
	p.send(p.within("INFO", inv, ok)) // a keep-alive
	p.expect(200)
	m := p.within("INFO", inv, ok)
	m.headers, m.body, m.contentType = []string{"Info-Package: foo"}, "x", "text/plain"
	p.send(m)
	p.expect(469)
	if len(r.events) > 0 {
		t.Errorf("told %v", <-r.events)
	}
}

func TestByeInAnEarlyDialog(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	i := r.bound()
	if err := i.Ringing(); err != nil {
		t.Fatal(err)
	}
	ringing := p.expect(180)
	p.send(p.within("INFO", inv, ringing))
	p.expect(481)
	p.send(p.within("BYE", inv, ringing))
	p.expect(200)
	p.ack(inv, p.expect(487))
	if e := r.expect("cancelled"); e.leg != i.Leg() {
		t.Errorf("%+v", e)
	}
	if r.ua.ringing.size() != 0 {
		t.Error("the INVITE is still kept")
	}
}

func TestByeDuringAReinvite(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t, slow)
		p := dial(t, r.ua, transport)
		_, inv, ok := talking(t, r, p)
		re := p.within("INVITE", inv, ok)
		p.send(re)
		e := r.expect("reoffered")
		p.send(p.within("BYE", inv, ok))
		p.expect(200)
		p.ack(re, p.expect(487))
		r.expect("bye")
		if _, err := e.re.Accept([]byte(offerSDP)); !errors.Is(err, ErrCancelled) {
			t.Errorf("Accept after BYE: %v", err)
		}
	})
}
