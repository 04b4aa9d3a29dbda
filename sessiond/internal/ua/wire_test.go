package ua

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

func TestAStreamInPieces(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "tcp")
	var all strings.Builder
	for range 5 {
		m := p.invite("")
		m.method, m.headers, m.body, m.contentType = "OPTIONS", []string{"X: " + strings.Repeat("y", 50)}, "a body", "text/plain"
		all.WriteString("\r\n" + p.text(m))
	}
	text := all.String()
	for len(text) > 0 {
		n := min(len(text), 1+rand.IntN(60))
		p.write(text[:n])
		text = text[n:]
	}
	for i := range 5 {
		if m := p.expect(200); m.Value("cseq") != fmt.Sprintf("%d OPTIONS", i+2) {
			t.Fatalf("answer %d is %q", i, m.Value("cseq"))
		}
	}
}

func TestStreamKeepAlive(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("tcp", r.ua.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	pong := make([]byte, 2)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, pong); err != nil || string(pong) != "\r\n" {
		t.Errorf("%q %v", pong, err)
	}
}

func TestStreamsThatCannotBeFollowed(t *testing.T) {
	r := start(t)
	for name, c := range map[string]struct {
		text string
		code int
	}{
		"no length":    {"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n", 400},
		"too long":     {"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 70000\r\n\r\n", 513},
		"never ending": {strings.Repeat("OPTIONS sip:a SIP/2.0 ", 4000), 0},
		"HTTP":         {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, r.ua, "tcp")
			_, _ = p.conn.Write([]byte(c.text)) // it may hang up meanwhile
			if c.code > 0 {
				p.expect(c.code)
			}
			eventually(t, func() error {
				if r.ua.wires.stream(netip.MustParseAddrPort(p.local)) != nil {
					return errors.New("the connection is open")
				}
				return nil
			})
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	r := start(t, func(c *Config, _ *Deps) { c.MaxStreams = 1 })
	p := dial(t, r.ua, "tcp")
	m := p.invite("")
	m.method = "OPTIONS"
	p.send(m)
	p.expect(200)
	conn, err := net.Dial("tcp", r.ua.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second connection stays open: %v", err)
	}
	p.send(m)
	p.expect(200)
}

// Whatever arrives, a call goes through afterwards.
func TestRubbishDoesNoHarm(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "udp")
	inv := p.text(p.invite(offerSDP))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := []byte(inv)
		for range 1 + rng.IntN(8) {
			switch i := rng.IntN(len(b)); rng.IntN(4) {
			case 0:
				b[i] = byte(rng.IntN(256))
			case 1:
				b = append(b[:i], b[min(len(b), i+rng.IntN(40)):]...)
			case 2:
				b = append(b[:i:i], append([]byte(inv[rng.IntN(len(inv)):]), b[i:]...)...)
			case 3:
				b = b[:i+1]
			}
			if len(b) == 0 {
				break
			}
		}
		if len(b) > 60000 {
			continue
		}
		r.ua.receive(b, &flow{transport: []string{"udp", "tcp"}[rng.IntN(2)], local: r.ua.Addr("udp"), remote: netip.MustParseAddrPort("127.0.0.1:9"),
			dest: netip.MustParseAddrPort("127.0.0.1:9"), send: func([]byte, netip.AddrPort) error { return nil }})
	}
	for len(r.invites) > 0 { // some were good enough
		_ = (<-r.invites).Reject(486, "Busy Here")
	}
	q := dial(t, r.ua, "udp")
	_, inv2, ok := talking(t, r, q)
	q.send(q.within("BYE", inv2, ok))
	q.expect(200)
	r.expect("bye")
}

// packets is a UDP socket without a network, for tests in a time bubble.
type packets struct {
	in, out chan []byte
	closed  chan struct{}
	once    sync.Once
}

func newPackets() *packets {
	return &packets{in: make(chan []byte, 100), out: make(chan []byte, 1000), closed: make(chan struct{})}
}

var farEnd = net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-p.in:
		return copy(b, m), farEnd, nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}
func (p *packets) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.out <- append([]byte(nil), b...)
	return len(b), nil
}
func (p *packets) Close() error { p.once.Do(func() { close(p.closed) }); return nil }
func (p *packets) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.9:5060"))
}
func (p *packets) SetDeadline(time.Time) error      { return nil }
func (p *packets) SetReadDeadline(time.Time) error  { return nil }
func (p *packets) SetWriteDeadline(time.Time) error { return nil }

// bubble starts a UA over packets.
func bubble(t *testing.T) (*control, *UA, *packets) {
	c := newControl(t)
	u, err := New(Config{}, Deps{Calls: c, Tags: testTags(t), Log: slog.New(slog.DiscardHandler), Metrics: newRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	conn := newPackets()
	if err := u.AddPacketConn(conn); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- u.Serve(t.Context()) }()
	t.Cleanup(func() {
		if err := u.Close(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	return c, u, conn
}

func TestAByeNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, conn := bubble(t)
		d := dialog.Dialog{CallID: "x", LocalTag: "l", RemoteTag: "r", LocalURI: "sip:1000@a", RemoteURI: "sip:alice@b",
			RemoteTarget: "sip:alice@192.0.2.1", Transport: "udp", Source: "192.0.2.1:5060"}
		begin := time.Now()
		if err := u.Bye(t.Context(), &d); !errors.Is(err, ErrTimeout) {
			t.Fatalf("err = %v", err)
		}
		if took := time.Since(begin); took != 32*time.Second {
			t.Errorf("gave up after %v, want 64*T1", took)
		}
		// §17.1.2.2: at 0, 0.5, 1.5, 3.5, 7.5, 11.5, … 31.5 s.
		if n := len(conn.out); n != 11 {
			t.Errorf("sent %d times, want 11", n)
		}
		if d.LocalCSeq != 1 {
			t.Errorf("CSeq %d", d.LocalCSeq)
		}
	})
}

func TestTheRepetitionsOfA2xx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := bubble(t)
		conn.in <- []byte("INVITE sip:1000@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\n\r\n")
		i := <-c.invites
		if err := i.Bind(t.Context(), uuid.New(), 0); err != nil {
			t.Fatal(err)
		}
		<-conn.out // 100
		begin := time.Now()
		if _, err := i.Accept([]byte(offerSDP)); err != nil {
			t.Fatal(err)
		}
		var at []time.Duration
		for {
			select {
			case <-conn.out:
				at = append(at, time.Since(begin))
				continue
			case e := <-c.events:
				if e.what != "ack timed out" || time.Since(begin) != 32*time.Second {
					t.Errorf("%q after %v", e.what, time.Since(begin))
				}
			}
			break
		}
		ms := time.Millisecond // T1 doubling to T2 (RFC 3261 §13.3.1.4)
		want := []time.Duration{0, 500 * ms, 1500 * ms, 3500 * ms, 7500 * ms, 11500 * ms, 15500 * ms, 19500 * ms, 23500 * ms, 27500 * ms, 31500 * ms}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
		// The transaction is gone too, after timer L.
		<-time.After(time.Second)
		synctest.Wait()
		if n := c.transactions(i.u); n != 0 {
			t.Errorf("%d transactions are left", n)
		}
	})
}

func (c *control) transactions(u *UA) int { return u.txns.size() }

func TestLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLimiter(10, 2)
	l.now = func() time.Time { return now }
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	take := func(a netip.Addr) (n int) {
		for l.allow(a) {
			n++
		}
		return n
	}
	if n := take(a); n != 2 {
		t.Errorf("burst %d", n)
	}
	if n := take(b); n != 2 || l.allow(netip.MustParseAddr("2001:db8::ffff")) {
		t.Errorf("burst %d of a /64", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := take(a); n != 1 {
		t.Errorf("after 100 ms %d", n)
	}
	for i := range uint32(3 * bucketsPerGeneration) {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if i%5000 == 0 && take(a) > 0 { // a busy source keeps its count
			t.Fatal("a source got its tokens back without waiting")
		}
	}
	if n := len(l.young) + len(l.old); n > 2*bucketsPerGeneration {
		t.Errorf("%d buckets", n)
	}
}

// BenchmarkCall is the CPU of INVITE, 200, ACK, BYE, 200 in the UA, without
// sockets or a network on either side.
func BenchmarkCall(b *testing.B) {
	c := newControl(b)
	u, err := New(Config{Instance: "a"}, Deps{Calls: c, Tags: testTags(b), Log: slog.New(slog.DiscardHandler), Metrics: newRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	c.onInvite = func(inv *Invitation) {
		if err := inv.Bind(context.Background(), uuid.New(), 0); err != nil {
			b.Error(err)
		}
		if _, err := inv.Accept([]byte(offerSDP)); err != nil {
			b.Error(err)
		}
	}
	var last []byte
	remote := netip.MustParseAddrPort("192.0.2.1:5060")
	fl := &flow{transport: "udp", local: netip.MustParseAddrPort("192.0.2.9:5060"), remote: remote, dest: remote, contactPort: 5060,
		send: func(m []byte, _ netip.AddrPort) error { last = append(last[:0], m...); return nil }}
	format := func(method, tag string, n, seq int, body string) []byte {
		return fmt.Appendf(nil, "%s sip:1000@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK%d%s\r\nMax-Forwards: 70\r\nFrom: <sip:alice@192.0.2.1>;tag=from\r\nTo: <sip:1000@192.0.2.9>%s\r\nCall-ID: bench-%d@192.0.2.1\r\nCSeq: %d %s\r\nContact: <sip:alice@192.0.2.1>\r\nUser-Agent: bench\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
			method, n, method, tag, n, seq, method, len(body), body)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		u.receive(format("INVITE", "", n, 1, offerSDP), fl)
		_, rest, _ := strings.Cut(string(last), "\r\nTo: ")
		_, tag, _ := strings.Cut(rest[:strings.Index(rest, "\r\n")], ">")
		u.receive(format("ACK", tag, n, 1, ""), fl)
		u.receive(format("BYE", tag, n, 2, ""), fl)
		for range 2 {
			<-c.events
		}
	}
	if err := u.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
