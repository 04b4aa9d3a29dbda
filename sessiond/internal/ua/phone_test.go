package ua

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/tag"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// patience bounds every wait of a test for something that must happen.
const patience = 5 * time.Second

const offerSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

// event is what control was told.
type event struct {
	what   string
	leg    LegRef
	text   string
	answer []byte
	d      time.Duration
	re     *Reinvite
}

// control is a Calls that records, and answers as its hooks say.
type control struct {
	t        testing.TB
	events   chan event
	invites  chan *Invitation
	onInvite func(*Invitation)
	mu       sync.Mutex
	dialogs  map[LegRef]*dialog.Dialog
	owners   map[LegRef]string
}

func newControl(t testing.TB) *control {
	return &control{t: t, events: make(chan event, 4096), invites: make(chan *Invitation, 4096),
		dialogs: map[LegRef]*dialog.Dialog{}, owners: map[LegRef]string{}}
}

func (c *control) Invited(_ context.Context, inv *Invitation) {
	if c.onInvite != nil {
		c.onInvite(inv)
		return
	}
	c.invites <- inv
}
func (c *control) Cancelled(_ context.Context, leg LegRef, reason string) {
	c.events <- event{what: "cancelled", leg: leg, text: reason}
}
func (c *control) Acked(_ context.Context, leg LegRef, answer []byte) {
	c.events <- event{what: "acked", leg: leg, answer: answer}
}
func (c *control) AckTimedOut(_ context.Context, leg LegRef) {
	c.events <- event{what: "ack timed out", leg: leg}
}
func (c *control) ByeReceived(_ context.Context, leg LegRef, reason string) {
	c.events <- event{what: "bye", leg: leg, text: reason}
}
func (c *control) InfoDigit(_ context.Context, leg LegRef, digit string, d time.Duration) {
	c.events <- event{what: "digit", leg: leg, text: digit, d: d}
}
func (c *control) Reoffered(_ context.Context, re *Reinvite) {
	c.events <- event{what: "reoffered", leg: re.Leg, re: re}
}
func (c *control) DialogOf(_ context.Context, leg LegRef) (*dialog.Dialog, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if owner := c.owners[leg]; owner != "" {
		return nil, owner, nil
	}
	if d := c.dialogs[leg]; d != nil {
		return d, "", nil
	}
	return nil, "", ErrNoDialog
}

// expect waits for the next event, which must be the one named.
func (c *control) expect(what string) event {
	c.t.Helper()
	select {
	case e := <-c.events:
		if e.what != what {
			c.t.Fatalf("control was told %q, want %q", e.what, what)
		}
		return e
	case <-time.After(patience):
		c.t.Fatalf("control was not told %q", what)
	}
	return event{}
}

func (c *control) invitation() *Invitation {
	c.t.Helper()
	select {
	case inv := <-c.invites:
		return inv
	case <-time.After(patience):
		c.t.Fatal("no invitation")
	}
	return nil
}

// bound waits for an invitation and binds it to a new session.
func (c *control) bound() *Invitation {
	c.t.Helper()
	inv := c.invitation()
	if err := inv.Bind(c.t.Context(), uuid.New(), 0); err != nil {
		c.t.Fatal(err)
	}
	return inv
}

// rig is a UA on loopback with its control.
type rig struct {
	*control
	ua  *UA
	reg *prometheus.Registry
}

func testTags(t testing.TB) *tag.Sealer {
	s, err := tag.NewSealer(make([]byte, tag.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB, change ...func(*Config, *Deps)) *rig {
	t.Helper()
	c := newControl(t)
	reg := prometheus.NewRegistry()
	cfg := Config{Instance: "a", UserAgent: "callmesh"}
	deps := Deps{Calls: c, Tags: testTags(t), Log: slog.New(slog.DiscardHandler), Metrics: reg}
	for _, f := range change {
		f(&cfg, &deps)
	}
	u, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Listen(t.Context(), "udp:127.0.0.1:0", "tcp:127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- u.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := u.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &rig{control: c, ua: u, reg: reg}
}

// counter reads a metric of the rig.
func (r *rig) counter(name, label string) float64 {
	r.t.Helper()
	all, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// phone is a SIP client that knows nothing but text.
type phone struct {
	t         testing.TB
	conn      net.Conn
	transport string
	in        chan header.Message
	callID    string
	local     string // its address
	n         int
	seq       int
}

func dial(t testing.TB, u *UA, transport string) *phone {
	t.Helper()
	return dialAddr(t, u.Addr(transport).String(), transport)
}

func dialAddr(t testing.TB, addr, transport string) *phone {
	t.Helper()
	conn, err := net.Dial(transport, addr)
	if err != nil {
		t.Fatal(err)
	}
	return phoneOn(t, conn, strings.ToUpper(transport))
}

func phoneOn(t testing.TB, conn net.Conn, transport string) *phone {
	t.Helper()
	p := &phone{t: t, conn: conn, transport: transport, in: make(chan header.Message, 1024),
		callID: uuid.NewString() + "@phone", local: conn.LocalAddr().String(), seq: 1}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return p
}

func (p *phone) read() {
	if p.transport == "UDP" {
		buf := make([]byte, 1<<16)
		for {
			n, err := p.conn.Read(buf)
			if err != nil {
				return
			}
			if m, err := header.Scan([]byte(string(buf[:n]))); err == nil {
				p.in <- m
			}
		}
	}
	r := bufio.NewReader(p.conn)
	for {
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" && head.Len() == 0 {
				continue
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		m, err := header.Scan([]byte(head.String()))
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(m.Value("content-length"))
		m.Body = make([]byte, n)
		if _, err := io.ReadFull(r, m.Body); err != nil {
			return
		}
		p.in <- m
	}
}

func (p *phone) write(text string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// msg is a request to be varied before it is sent.
type msg struct {
	method, uri, branch, from, to string
	seq                           int
	headers                       []string
	body, contentType             string
}

func (p *phone) branch() string {
	p.n++
	return "z9hG4bK" + strconv.Itoa(p.n) + strings.ReplaceAll(p.callID, "@", "")
}

func (p *phone) invite(body string) *msg {
	p.seq++
	return &msg{method: "INVITE", uri: "sip:1000@127.0.0.1", branch: p.branch(), from: "<sip:alice@127.0.0.1>;tag=from" + p.callID[:8],
		to: "<sip:1000@127.0.0.1>", seq: p.seq, body: body, contentType: "application/sdp"}
}

// in is a request in the dialog that a response made.
func (p *phone) within(method string, inv *msg, res header.Message) *msg {
	m := &msg{method: method, uri: contactOf(res), branch: p.branch(), from: inv.from, to: res.Value("to"), seq: inv.seq}
	if method != "ACK" {
		p.seq++
		m.seq = p.seq
	}
	return m
}

func contactOf(m header.Message) string {
	a, err := header.ParseAddress(m.Value("contact"))
	if err != nil {
		return "sip:1000@127.0.0.1"
	}
	return a.URI
}

func (p *phone) text(m *msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/%s %s;rport;branch=%s\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n",
		m.method, m.uri, p.transport, p.local, m.branch, m.from, m.to, p.callID, m.seq, m.method)
	if m.method == "INVITE" {
		fmt.Fprintf(&b, "Contact: <sip:alice@%s;transport=%s>\r\n", p.local, strings.ToLower(p.transport))
	}
	for _, h := range m.headers {
		b.WriteString(h + "\r\n")
	}
	if m.body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", m.contentType)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.body), m.body)
	return b.String()
}

func (p *phone) send(m *msg) { p.t.Helper(); p.write(p.text(m)) }

// reply answers a request of the UA.
func (p *phone) reply(req header.Message, status string, headers ...string) {
	p.t.Helper()
	var b strings.Builder
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, key := range []string{"via", "from", "to", "call-id", "cseq"} {
		for _, v := range req.Lines(key) {
			b.WriteString(key + ": " + v + "\r\n")
		}
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	p.write(b.String())
}

// next returns the next message, and fails the test when there is none.
func (p *phone) next() header.Message {
	p.t.Helper()
	select {
	case m := <-p.in:
		return m
	case <-time.After(patience):
		p.t.Fatal("the phone heard nothing")
	}
	return header.Message{}
}

// expect waits for an answer; 100s that are not asked for are skipped.
func (p *phone) expect(code int) header.Message {
	p.t.Helper()
	for {
		m := p.next()
		if strings.HasPrefix(m.StartLine, "SIP/2.0 100 ") && code != 100 {
			continue
		}
		if !strings.HasPrefix(m.StartLine, "SIP/2.0 "+strconv.Itoa(code)+" ") {
			p.t.Fatalf("the phone got %q (%v), want %d", m.StartLine, m.Fields, code)
		}
		return m
	}
}

// expectRequest waits for a request of the UA.
func (p *phone) expectRequest(method string) header.Message {
	p.t.Helper()
	for {
		m := p.next()
		if strings.HasPrefix(m.StartLine, method+" ") {
			return m
		}
		if !strings.HasPrefix(m.StartLine, "SIP/2.0 200 ") { // a 2xx may repeat
			p.t.Fatalf("the phone got %q, want %s", m.StartLine, method)
		}
	}
}

// silent asserts that nothing arrives that the UA sent before it answered a
// fresh OPTIONS: what it had to say about earlier messages is then out.
func (p *phone) silent() {
	p.t.Helper()
	probe := &phone{t: p.t, conn: p.conn, transport: p.transport, in: p.in, callID: uuid.NewString(), local: p.local, seq: 1}
	m := &msg{method: "OPTIONS", uri: "sip:127.0.0.1", branch: probe.branch(), from: "<sip:a@b>;tag=1", to: "<sip:a@b>", seq: 1}
	probe.send(m)
	for {
		got := p.next()
		if got.Value("call-id") == probe.callID {
			return
		}
		p.t.Fatalf("the phone got %q, want nothing", got.StartLine)
	}
}

// expectRequestSkipping waits for a request and skips answers, which may repeat.
func (p *phone) expectRequestSkipping(method string) header.Message {
	p.t.Helper()
	for {
		if m := p.next(); strings.HasPrefix(m.StartLine, method+" ") {
			return m
		}
	}
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// ack sends the ACK to a refusal: in the INVITE's transaction.
func (p *phone) ack(inv *msg, res header.Message) {
	p.t.Helper()
	p.send(&msg{method: "ACK", uri: inv.uri, branch: inv.branch, from: inv.from, to: "<sip:1000@127.0.0.1>;tag=" + res.Tag("to"), seq: inv.seq})
}
