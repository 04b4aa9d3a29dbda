package ua

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// cluster is two instances that share an index and know how to reach each other.
type cluster struct {
	mu    sync.Mutex
	index map[string][]LegRef
	owner map[string]string
	uas   map[string]*UA
	sent  []string // what was forwarded
}

func (c *cluster) Claim(_ context.Context, callID string, leg LegRef) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index[callID] = append(c.index[callID], leg)
	return nil
}

func (c *cluster) Lookup(_ context.Context, callID string) ([]LegRef, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index[callID], c.owner[callID], nil
}

func (c *cluster) forward(ctx context.Context, instance string, raw []byte, transport, source, local string) ([]byte, error) {
	c.mu.Lock()
	u := c.uas[instance]
	line, _, _ := strings.Cut(string(raw), " ")
	c.sent = append(c.sent, instance+" "+line)
	c.mu.Unlock()
	if u == nil {
		return nil, errors.New("no such instance")
	}
	return u.Deliver(ctx, raw, transport, source, local)
}

// pair starts instances a and b; a owns the calls of its phone.
func pair(t *testing.T, change ...func(*Config, *Deps)) (c *cluster, a, b *rig) {
	c = &cluster{index: map[string][]LegRef{}, owner: map[string]string{}, uas: map[string]*UA{}}
	join := func(name string) func(*Config, *Deps) {
		return func(cfg *Config, d *Deps) {
			cfg.Instance, d.Index, d.Forward = name, c, c.forward
		}
	}
	a = start(t, append(change, join("a"))...)
	b = start(t, append(change, join("b"))...)
	c.mu.Lock()
	c.uas["a"], c.uas["b"] = a.ua, b.ua
	c.mu.Unlock()
	return c, a, b
}

func (c *cluster) owns(callID, instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner[callID] = instance
}

// moved is the phone p, whose packets now reach another instance.
func (p *phone) moved(u *UA) *phone {
	q := dial(p.t, u, "udp")
	q.callID, q.seq, q.n = p.callID, p.seq, p.n+100
	return q
}

func TestRequestsAtTheWrongInstance(t *testing.T) {
	_, a, b := pair(t, quick)
	p := dial(t, a.ua, "udp")
	i, inv, ok := talking(t, a, p)
	b.mu.Lock()
	b.owners[i.Leg()] = "a"
	b.mu.Unlock()
	q := p.moved(b.ua)

	// A digit.
	info := q.within("INFO", inv, ok)
	info.body, info.contentType = "Signal=9\r\n", "application/dtmf-relay"
	q.send(info)
	q.expect(200)
	if e := a.expect("digit"); e.text != "9" {
		t.Errorf("%+v", e)
	}
	q.send(info) // absorbed where it arrived
	q.expect(200)

	// A re-INVITE, answered after a while, its 200 repeated until the ACK.
	re := q.within("INVITE", inv, ok)
	re.body, re.contentType = offerSDP, "application/sdp"
	q.send(re)
	q.expect(100)
	e := a.expect("reoffered")
	if e.re.Dialog.Source != q.local {
		t.Errorf("source %s, want %s", e.re.Dialog.Source, q.local)
	}
	if _, err := e.re.Accept([]byte(offerSDP)); err != nil {
		t.Fatal(err)
	}
	first := q.expect(200)
	again := q.expect(200)
	if !strings.Contains(first.Value("contact"), a.ua.Addr("udp").String()) {
		t.Errorf("Contact %q does not lead back to the owner", first.Value("contact"))
	}
	if first.Value("via") != again.Value("via") || !strings.Contains(first.Value("via"), "rport=") {
		t.Errorf("%v", first.Fields)
	}
	q.send(q.within("ACK", re, first))
	a.expect("acked")
	for len(q.in) > 0 {
		<-q.in
	}
	q.silent()

	// The end.
	q.send(q.within("BYE", inv, ok))
	q.expect(200)
	a.expect("bye")
	if len(b.events) > 0 {
		t.Errorf("b was told %v", <-b.events)
	}
}

func TestCancelAtTheWrongInstance(t *testing.T) {
	c, a, b := pair(t)
	p := dial(t, a.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	i := a.bound()
	c.owns(p.callID, "a")
	if err := i.Ringing(); err != nil {
		t.Fatal(err)
	}
	p.expect(180)
	q := p.moved(b.ua)
	cancel := *inv
	cancel.method, cancel.body = "CANCEL", ""
	text := strings.ReplaceAll(q.text(&cancel), q.local, p.local) // the same Via as the INVITE's
	q.write(text)
	q.expect(200)
	p.expect(487)
	if e := a.expect("cancelled"); e.leg != i.Leg() {
		t.Errorf("%+v", e)
	}
}

func TestARepeatedINVITEAtTheWrongInstance(t *testing.T) {
	c, a, b := pair(t, slow)
	p := dial(t, a.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	i := a.bound()
	c.owns(p.callID, "a")
	if _, err := i.Accept([]byte(offerSDP)); err != nil {
		t.Fatal(err)
	}
	ok := p.expect(200)
	q := p.moved(b.ua)
	q.write(strings.ReplaceAll(q.text(inv), q.local, p.local))
	if again := q.expect(200); again.Tag("to") != ok.Tag("to") {
		t.Errorf("another tag: %q", again.Value("to"))
	}
	if len(b.invites) > 0 {
		t.Error("b was invited")
	}
}

func TestACopyAtTheWrongInstance(t *testing.T) {
	c, a, b := pair(t, slow)
	p := dial(t, a.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	i := a.bound()
	c.owns(p.callID, "a")
	q := p.moved(b.ua)
	fork := *inv
	fork.branch = q.branch()
	q.send(&fork) // on another way, and it ends elsewhere
	q.ack(&fork, q.expect(482))
	if err := i.Reject(486, "Busy Here"); err != nil {
		t.Fatal(err)
	}
	p.ack(inv, p.expect(486))
	// The caller tries again: a new call, wherever it arrives.
	again := q.invite(offerSDP)
	again.seq += 10
	q.send(again)
	if err := b.invitation().Reject(486, "Busy Here"); err != nil {
		t.Fatal(err)
	}
	q.ack(again, q.expect(486))
}

func TestAStrayResponse(t *testing.T) {
	_, a, b := pair(t, slow)
	p := dial(t, a.ua, "udp")
	i, _, _ := talking(t, a, p)
	d, _ := a.ua.Dialog(i.Leg())
	done := make(chan error, 1)
	go func() { done <- a.ua.Bye(t.Context(), &d) }()
	bye := p.expectRequest("BYE")
	p.moved(b.ua).reply(bye, "200 OK") // behind a load balancer
	if err := <-done; err != nil {
		t.Error(err)
	}
	// One that names an instance which does not exist is dropped.
	bye.Fields[0].Value = "SIP/2.0/UDP x;branch=z9hG4bKabc.6e6f6e65"
	p.reply(bye, "200 OK")
	p.silent()
}

func TestNoCircles(t *testing.T) {
	_, a, b := pair(t, slow)
	p := dial(t, a.ua, "udp")
	i, inv, ok := talking(t, a, p)
	a.ua.Forget(i.Leg())
	for _, r := range []*rig{a, b} { // each says the other has it
		r.mu.Lock()
		r.owners[i.Leg()] = map[*rig]string{a: "b", b: "a"}[r]
		r.mu.Unlock()
	}
	p.send(p.within("BYE", inv, ok))
	p.expect(503)
}

func TestAnInstanceThatIsGone(t *testing.T) {
	c, a, b := pair(t, slow)
	p := dial(t, a.ua, "udp")
	i, inv, ok := talking(t, a, p)
	b.mu.Lock()
	b.owners[i.Leg()] = "c"
	b.mu.Unlock()
	q := p.moved(b.ua)
	q.send(q.within("BYE", inv, ok))
	if m := q.expect(503); m.Value("retry-after") == "" {
		t.Errorf("%v", m.Fields)
	}
	// An INVITE whose owner cannot be asked is a new call.
	n := q.invite(offerSDP)
	c.index[q.callID] = []LegRef{i.Leg()}
	c.owns(q.callID, "c")
	q.send(n)
	if err := b.invitation().Reject(486, "Busy Here"); err != nil {
		t.Fatal(err)
	}
	q.ack(n, q.expect(486))
}

// slowIndex answers when told to.
type slowIndex struct {
	*cluster
	asked, answer chan struct{}
}

func (s *slowIndex) Lookup(ctx context.Context, callID string) ([]LegRef, string, error) {
	s.asked <- struct{}{}
	<-s.answer
	return s.cluster.Lookup(ctx, callID)
}

func TestCancelDuringTheLookUp(t *testing.T) {
	s := &slowIndex{cluster: &cluster{index: map[string][]LegRef{}, owner: map[string]string{}}, asked: make(chan struct{}), answer: make(chan struct{})}
	r := start(t, func(_ *Config, d *Deps) { d.Index, d.Forward = s, s.forward })
	p := dial(t, r.ua, "udp")
	inv := p.invite(offerSDP)
	p.send(inv)
	<-s.asked
	cancel := *inv
	cancel.method, cancel.body = "CANCEL", ""
	p.send(&cancel)
	ok := p.expect(200)
	close(s.answer)
	gone := p.expect(487)
	if ok.Tag("to") != gone.Tag("to") {
		t.Errorf("tags %q, %q", ok.Tag("to"), gone.Tag("to"))
	}
	p.ack(inv, gone)
	p.silent()
	if len(r.invites) > 0 {
		t.Error("control was invited to a call that is gone")
	}
}

func TestDeliverWaitsForTheAnswer(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	i, inv, ok := talking(t, r, p)
	re := p.within("INVITE", inv, ok)
	re.body, re.contentType = offerSDP, "application/sdp"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.ua.Deliver(ctx, []byte(p.text(re)), "udp", p.local, r.ua.Addr("udp").String()); !errors.Is(err, ErrTimeout) {
		t.Errorf("unanswered: %v", err)
	}
	if e := r.expect("reoffered"); e.leg != i.Leg() {
		t.Errorf("%+v", e)
	}
	for _, bad := range []string{"nonsense", ""} {
		if _, err := r.ua.Deliver(t.Context(), []byte(p.text(re)), "udp", bad, p.local); err == nil {
			t.Errorf("source %q was taken", bad)
		}
	}
	res, err := r.ua.Deliver(t.Context(), []byte(strings.Replace(p.text(re), "CSeq: ", "CSeq: x", 1)), "udp", p.local, p.local)
	if m, _ := header.Scan(res); err != nil || !strings.HasPrefix(m.StartLine, "SIP/2.0 400 ") {
		t.Errorf("%q %v", res, err)
	}
}
