package ua

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// quick makes 2xx repeat fast.
func quick(c *Config, _ *Deps) { c.T1, c.T2 = 10*time.Millisecond, 40*time.Millisecond }

// slow keeps them from repeating within a test.
func slow(c *Config, _ *Deps) { c.T1, c.T2 = time.Minute, time.Minute }

func TestLateOffer(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t)
		p := dial(t, r.ua, transport)
		inv := p.invite("")
		p.send(inv)
		i := r.bound()
		if i.Offer != nil {
			t.Errorf("offer %q", i.Offer)
		}
		if _, err := i.Accept([]byte(offerSDP)); err != nil {
			t.Fatal(err)
		}
		ok := p.expect(200)
		ack := p.within("ACK", inv, ok)
		ack.body, ack.contentType = strings.Replace(offerSDP, "4000", "4444", 1), "application/sdp"
		p.send(ack)
		if e := r.expect("acked"); string(e.answer) != ack.body {
			t.Errorf("answer %q", e.answer)
		}
		if d, _ := r.ua.Dialog(i.Leg()); d.RemoteSDP != ack.body || d.LocalSDP != offerSDP {
			t.Errorf("dialog %+v", d)
		}
	})
}

func TestA2xxIsRepeatedUntilItsACK(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t, quick)
		p := dial(t, r.ua, transport)
		inv := p.invite(offerSDP)
		p.send(inv)
		if _, err := r.bound().Accept([]byte(offerSDP)); err != nil {
			t.Fatal(err)
		}
		first := p.expect(200)
		for range 3 {
			if again := p.expect(200); again.Value("cseq") != first.Value("cseq") || string(again.Body) != offerSDP {
				t.Fatalf("the repetition differs: %v", again.Fields)
			}
		}
		p.send(p.within("ACK", inv, first))
		r.expect("acked")
		for len(p.in) > 0 { // sent before the ACK
			<-p.in
		}
		p.silent()
		p.send(p.within("ACK", inv, first)) // to a repetition
		p.silent()
		if len(r.events) > 0 {
			t.Errorf("told %v", <-r.events)
		}
	})
}

func TestNoACKEver(t *testing.T) {
	r := start(t, func(c *Config, _ *Deps) { c.T1, c.T2 = 2*time.Millisecond, 8*time.Millisecond })
	p := dial(t, r.ua, "udp")
	p.send(p.invite(offerSDP))
	i := r.bound()
	d, err := i.Accept([]byte(offerSDP))
	if err != nil {
		t.Fatal(err)
	}
	if e := r.expect("ack timed out"); e.leg != i.Leg() {
		t.Errorf("%+v", e)
	}
	if n := r.counter("callmesh_sip_ack_timeouts_total", ""); n != 1 {
		t.Errorf("counted %v", n)
	}
	done := make(chan error, 1)
	go func() { done <- r.ua.Bye(t.Context(), &d) }()
	p.reply(p.expectRequestSkipping("BYE"), "200 OK")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCancelCrossing200(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		r := start(t, slow)
		p := dial(t, r.ua, transport)
		inv := p.invite(offerSDP)
		p.send(inv)
		if _, err := r.bound().Accept([]byte(offerSDP)); err != nil {
			t.Fatal(err)
		}
		cancel := *inv
		cancel.method, cancel.body = "CANCEL", ""
		p.send(&cancel)
		ok := p.expect(200)
		if ok.Value("cseq") != "2 INVITE" {
			t.Fatalf("first %q", ok.Value("cseq"))
		}
		if c := p.expect(200); c.Value("cseq") != "2 CANCEL" {
			t.Errorf("second %q", c.Value("cseq"))
		}
		p.send(p.within("ACK", inv, ok))
		r.expect("acked") // not cancelled
		p.silent()
		p.send(p.within("BYE", inv, ok))
		p.expect(200)
		r.expect("bye")
	})
}

func TestByeBeforeACK(t *testing.T) {
	r := start(t, quick)
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	if _, err := r.bound().Accept([]byte(offerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := p.expect(200)
	p.send(p.within("BYE", inv, ok))
	for {
		if m := p.expect(200); strings.HasSuffix(m.Value("cseq"), "BYE") {
			break
		}
	}
	r.expect("bye")
	for len(p.in) > 0 {
		<-p.in
	}
	p.send(p.within("ACK", inv, ok))
	p.silent() // the 200 is no longer repeated
	if len(r.events) > 0 {
		t.Errorf("told %v", <-r.events)
	}
}

func TestARepeatedINVITE(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	p.expect(100)
	p.send(inv)
	p.expect(100)
	i := r.bound()
	if err := i.Ringing(); err != nil {
		t.Fatal(err)
	}
	p.expect(180)
	p.send(inv)
	p.expect(180)
	if err := i.Reject(486, "Busy Here", Header{"X-Why", "busy"}); err != nil {
		t.Fatal(err)
	}
	busy := p.expect(486)
	if busy.Value("x-why") != "busy" {
		t.Errorf("%v", busy.Fields)
	}
	p.send(inv)
	p.expect(486)
	ack := p.within("ACK", inv, busy)
	ack.branch, ack.uri = inv.branch, inv.uri
	p.send(ack)
	p.silent()
	p.send(inv) // late: neither answered nor a new call
	p.silent()
	if len(r.invites) > 0 {
		t.Error("invited twice")
	}
	if err := i.Reject(486, "Busy Here"); !errors.Is(err, ErrAnswered) {
		t.Errorf("a second answer: %v", err)
	}
}

func TestARefusalIsRepeatedUntilItsACK(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	if err := r.invitation().Reject(404, "Not Found"); err != nil { // unbound
		t.Fatal(err)
	}
	first := p.expect(404)
	again := p.expect(404) // timer G
	if first.Tag("to") == "" || first.Tag("to") != again.Tag("to") {
		t.Errorf("tags %q, %q", first.Tag("to"), again.Tag("to"))
	}
	ack := p.within("ACK", inv, first)
	ack.branch, ack.uri = inv.branch, inv.uri
	p.send(ack)
	p.silent()
}

func TestMergedINVITE(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	i := r.bound()
	fork := *inv
	fork.branch = p.branch()
	p.send(&fork)
	p.expect(482)
	if err := i.Reject(486, "Busy Here"); err != nil {
		t.Fatal(err)
	}
	p.expect(486)
	if len(r.invites) > 0 {
		t.Error("invited twice")
	}
}

func TestCancelOfNothing(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "udp")
	inv := p.invite("")
	inv.method = "CANCEL"
	p.send(inv)
	p.expect(481)
}

func TestMethodsWeDoNotServe(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "tcp")
	for method, code := range map[string]int{"UPDATE": 405, "PRACK": 405, "REFER": 405, "SUBSCRIBE": 405, "NOTIFY": 405,
		"MESSAGE": 405, "REGISTER": 405, "PUBLISH": 405, "DANCE": 501, "BYE": 481, "INFO": 481, "OPTIONS": 200} {
		m := p.invite("")
		m.method = method
		p.send(m)
		res := p.expect(code)
		if (code == 405 || code == 501 || method == "OPTIONS") && !strings.Contains(res.Value("allow"), "INVITE") {
			t.Errorf("%s: Allow %q", method, res.Value("allow"))
		}
		if res.Tag("to") == "" {
			t.Errorf("%s: no To tag", method)
		}
	}
}

func TestAnswersGoWhereViaSays(t *testing.T) {
	r := start(t)
	p, q := dial(t, r.ua, "udp"), dial(t, r.ua, "udp")
	_, port, _ := net.SplitHostPort(q.local)
	text := func(via string) string {
		return "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP " + via + "\r\nVia: SIP/2.0/UDP below;branch=z9hG4bKb\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
	}
	p.write(text("phone.invalid:" + port + ";branch=z9hG4bKc"))
	m := q.expect(200)
	if vias := m.Lines("via"); len(vias) != 2 || vias[0] != "SIP/2.0/UDP phone.invalid:"+port+";branch=z9hG4bKc;received=127.0.0.1" || vias[1] != "SIP/2.0/UDP below;branch=z9hG4bKb" {
		t.Errorf("%q", vias)
	}
	_, mine, _ := net.SplitHostPort(p.local)
	p.write(text("phone.invalid:" + port + ";RPORT;branch=z9hG4bKd, SIP/2.0/TCP two"))
	m = p.expect(200)
	if got := m.Lines("via")[0]; got != "SIP/2.0/UDP phone.invalid:"+port+";rport="+mine+";branch=z9hG4bKd;received=127.0.0.1, SIP/2.0/TCP two" {
		t.Errorf("%q", got)
	}
}

func TestResumedDialogs(t *testing.T) {
	first := start(t, slow)
	p := dial(t, first.ua, "udp")
	i, inv, ok := talking(t, first, p)
	d, _ := first.ua.Dialog(i.Leg())
	stored := dialog.FromRecord(d.ToRecord())

	// A fresh instance, to which the phone's requests come now.
	second := start(t, slow)
	second.dialogs[i.Leg()] = &stored
	q := dial(t, second.ua, "udp")
	q.callID, q.seq = p.callID, p.seq
	info := q.within("INFO", inv, ok)
	info.body, info.contentType = "Signal=1\r\n", "application/dtmf-relay"
	q.send(info)
	q.expect(200)
	if e := second.expect("digit"); e.leg != i.Leg() {
		t.Errorf("%+v", e)
	}
	bye := q.within("BYE", inv, ok)
	q.send(bye)
	q.expect(200)
	second.expect("bye")

	// And another one that only has to hang up.
	third := start(t)
	u := dial(t, third.ua, "udp")
	stored.RemoteTarget = "sip:alice@" + u.local
	done := make(chan error, 1)
	go func() { done <- third.ua.Bye(t.Context(), &stored) }()
	u.reply(u.expectRequest("BYE"), "401 Unauthorized", `WWW-Authenticate: Digest realm="x", nonce="y"`)
	err := <-done
	if ref, ok := errors.AsType[*dialog.Refusal](err); !ok || ref.Code != 401 {
		t.Errorf("401 to BYE: %v", err)
	}
}

func TestDrain(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	_, inv, ok := talking(t, r, p)
	r.ua.Drain()
	q := dial(t, r.ua, "udp")
	q.send(q.invite(offerSDP))
	if m := q.expect(503); m.Value("retry-after") == "" {
		t.Errorf("%v", m.Fields)
	}
	probe := q.invite("")
	probe.method = "OPTIONS"
	q.send(probe)
	q.expect(503)
	p.send(p.within("BYE", inv, ok))
	p.expect(200)
	r.expect("bye")
}

func TestAPortInUseIsNamed(t *testing.T) {
	r := start(t)
	other, err := New(Config{}, Deps{Calls: r.control, Tags: testTags(t), Log: r.ua.log, Metrics: newRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"udp", "tcp"} {
		addr := r.ua.Addr(transport).String()
		if err := other.Listen(t.Context(), transport+":"+addr); err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", transport, err)
		}
	}
	for _, bad := range []string{"udp", "sctp:127.0.0.1:0", "udp:0.0.0.0:0"} {
		if err := other.Listen(t.Context(), bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestASourceThatFloods(t *testing.T) {
	r := start(t, func(c *Config, _ *Deps) { c.SourceRate, c.SourceBurst = 1, 3 })
	p := dial(t, r.ua, "udp")
	for range 20 {
		m := p.invite("")
		m.method = "OPTIONS"
		p.send(m)
	}
	for range 3 {
		p.expect(200)
	}
	eventually(t, func() error {
		if n := r.counter("callmesh_sip_dropped_total", "rate"); n < 16 {
			return fmt.Errorf("dropped %v", n)
		}
		return nil
	})
}

// eventually polls for what another goroutine does.
func eventually(t testing.TB, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestCloseAmidCalls(t *testing.T) {
	r := start(t, quick)
	p, q := dial(t, r.ua, "udp"), dial(t, r.ua, "tcp")
	talking(t, r, q)
	p.send(p.invite(offerSDP))
	ringing := r.bound()
	s := dial(t, r.ua, "udp")
	s.send(s.invite(offerSDP))
	open := r.bound()
	if _, err := open.Accept([]byte(offerSDP)); err != nil { // never acknowledged
		t.Fatal(err)
	}
	d, _ := r.ua.Dialog(open.Leg())
	hanging := make(chan error, 1)
	go func() { hanging <- r.ua.Bye(t.Context(), &d) }()
	s.expectRequestSkipping("BYE") // never answered
	if err := r.ua.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-hanging; !errors.Is(err, ErrClosed) {
		t.Errorf("Bye: %v", err)
	}
	_ = ringing.Ringing()
	_, _ = ringing.Accept([]byte(offerSDP))
	if err := r.ua.Bye(t.Context(), &d); !errors.Is(err, ErrClosed) {
		t.Errorf("Bye after Close: %v", err)
	}
	if _, err := r.ua.Deliver(t.Context(), []byte("x"), "udp", "127.0.0.1:1", "127.0.0.1:2"); !errors.Is(err, ErrClosed) {
		t.Errorf("Deliver after Close: %v", err)
	}
}

func TestInvitationsAreNotForEver(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	for range 50 {
		inv := p.invite(offerSDP)
		p.send(inv)
		i := r.invitation()
		if err := i.Bind(t.Context(), uuid.New(), 0); err != nil {
			t.Fatal(err)
		}
		if err := i.Reject(486, "Busy Here"); err != nil {
			t.Fatal(err)
		}
		p.ack(inv, p.expect(486))
	}
	p.silent()
	r.ua.legs.mu.Lock()
	defer r.ua.legs.mu.Unlock()
	if len(r.ua.legs.byRef) != 0 {
		t.Errorf("%d legs are left", len(r.ua.legs.byRef))
	}
}
