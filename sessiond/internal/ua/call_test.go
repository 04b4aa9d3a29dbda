package ua

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs a test over every transport.
func each(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

// talking sets a call up and returns its INVITE and 200.
func talking(t *testing.T, r *rig, p *phone) (*Invitation, *msg, header.Message) {
	t.Helper()
	inv := p.invite(offerSDP)
	p.send(inv)
	i := r.bound()
	if _, err := i.Accept([]byte(offerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := p.expect(200)
	p.send(p.within("ACK", inv, ok))
	r.expect("acked")
	return i, inv, ok
}

func TestCallerHangsUp(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t)
		p := dial(t, r.ua, transport)
		inv := p.invite(offerSDP)
		inv.headers = []string{"X-Site: a, b", "P-Asserted-Identity: \"Al\" <sip:+4612@x>", "x-site: c", "Subject: hi", "User-Agent: phone/1"}
		p.send(inv)
		if got := p.expect(100); got.Tag("to") != "" {
			t.Errorf("100 has a To tag: %q", got.Value("to"))
		}
		i := r.invitation()
		if i.CallID != p.callID || i.RequestUser != "1000" || i.RequestHost != "127.0.0.1" || i.From.User != "alice" ||
			string(i.Offer) != offerSDP || i.Transport != transport || i.Source.String() != p.local ||
			len(i.Asserted) != 1 || i.Asserted[0].User != "+4612" || i.Asserted[0].Display != "Al" || i.Subject != "hi" || i.UserAgent != "phone/1" {
			t.Errorf("facts: %+v", i.Facts)
		}
		if len(i.Headers) != 3 || i.Headers[0] != (Header{"X-Site", "a, b"}) || i.Headers[2] != (Header{"x-site", "c"}) {
			t.Errorf("headers: %v", i.Headers)
		}
		if err := i.Ringing(); !errors.Is(err, ErrUnbound) {
			t.Errorf("Ringing before Bind: %v", err)
		}
		session := uuid.New()
		if err := i.Bind(t.Context(), session, 7); err != nil {
			t.Fatal(err)
		}
		if err := i.Ringing(); err != nil {
			t.Fatal(err)
		}
		ringing := p.expect(180)
		d, err := i.Accept([]byte(offerSDP))
		if err != nil {
			t.Fatal(err)
		}
		ok := p.expect(200)
		if ok.Tag("to") == "" || ok.Tag("to") != ringing.Tag("to") || ok.Tag("to") != d.LocalTag {
			t.Errorf("To tags: 180 %q, 200 %q, dialog %q", ringing.Tag("to"), ok.Tag("to"), d.LocalTag)
		}
		if string(ok.Body) != offerSDP || ok.Value("content-type") != "application/sdp" || ok.Value("allow") == "" {
			t.Errorf("200: %v %q", ok.Fields, ok.Body)
		}
		if !strings.Contains(ok.Value("contact"), r.ua.Addr(transport).String()) {
			t.Errorf("Contact %q does not lead to %s", ok.Value("contact"), r.ua.Addr(transport))
		}
		p.send(p.within("ACK", inv, ok))
		ref := LegRef{session, 7}
		if e := r.expect("acked"); e.leg != ref || e.answer != nil {
			t.Errorf("acked %+v", e)
		}
		bye := p.within("BYE", inv, ok)
		bye.headers = []string{`Reason: Q.850;cause=16;text="Normal, clearing"`}
		p.send(bye)
		p.expect(200)
		if e := r.expect("bye"); e.leg != ref || e.text != `Q.850;cause=16;text="Normal, clearing"` {
			t.Errorf("bye %+v", e)
		}
		p.send(bye) // a retransmission: answered on UDP, unknown on TCP where none comes
		if transport == "udp" {
			p.expect(200)
		} else {
			p.expect(481)
		}
		if len(r.events) != 0 {
			t.Errorf("control was told %v", <-r.events)
		}
	})
}

func TestWeHangUp(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t)
		p := dial(t, r.ua, transport)
		i, _, ok := talking(t, r, p)
		d, held := r.ua.Dialog(i.Leg())
		if !held {
			t.Fatal("the leg is not held")
		}
		done := make(chan error, 1)
		go func() { done <- r.ua.Bye(t.Context(), &d, Header{"Reason", "SIP;cause=486\r\nEvil: yes"}) }()
		bye := p.expectRequest("BYE")
		if bye.Tag("from") != ok.Tag("to") || bye.Value("cseq") != "1 BYE" || bye.Value("max-forwards") != "70" {
			t.Errorf("BYE: %v", bye.Fields)
		}
		if bye.Count("evil") != 0 || bye.Value("reason") != "SIP;cause=486  Evil: yes" {
			t.Errorf("a header was injected: %v", bye.Fields)
		}
		if !strings.HasPrefix(bye.StartLine, "BYE sip:alice@"+p.local) {
			t.Errorf("request line %q", bye.StartLine)
		}
		p.reply(bye, "200 OK")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t)
		p := dial(t, r.ua, transport)
		inv := p.invite(offerSDP)
		p.send(inv)
		i := r.bound()
		if err := i.Ringing(); err != nil {
			t.Fatal(err)
		}
		ringing := p.expect(180)
		cancel := *inv
		cancel.method, cancel.body, cancel.headers = "CANCEL", "", []string{`Reason: SIP;cause=200;text="Call completed elsewhere"`}
		p.send(&cancel)
		if ok := p.expect(200); ok.Value("cseq") != "2 CANCEL" {
			t.Errorf("CSeq %q", ok.Value("cseq"))
		}
		gone := p.expect(487)
		if gone.Tag("to") != ringing.Tag("to") {
			t.Errorf("487 has tag %q, 180 had %q", gone.Tag("to"), ringing.Tag("to"))
		}
		ack := p.within("ACK", inv, gone)
		ack.branch, ack.uri = inv.branch, inv.uri
		p.send(ack)
		if e := r.expect("cancelled"); e.leg != i.Leg() || !strings.Contains(e.text, "elsewhere") {
			t.Errorf("cancelled %+v", e)
		}
		if _, err := i.Accept([]byte(offerSDP)); !errors.Is(err, ErrCancelled) {
			t.Errorf("Accept after CANCEL: %v", err)
		}
		if err := i.Reject(486, "Busy Here"); !errors.Is(err, ErrCancelled) {
			t.Errorf("Reject after CANCEL: %v", err)
		}
		p.silent()
	})
}
