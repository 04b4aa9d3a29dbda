package ua

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
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

// Refusals cost nothing: they are made without a transaction, and made again
// alike for a retransmission.
func TestRefusalsOnTheWire(t *testing.T) {
	r := start(t, func(c *Config, _ *Deps) { c.MaxTransactions = 1 })
	p := dial(t, r.ua, "udp")
	for name, c := range map[string]struct {
		from, to string
		code     int
		header   string
	}{
		"version":     {"SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505, ""},
		"scheme":      {"INVITE sip:", "INVITE nobody:", 416, ""},
		"hops":        {"Max-Forwards: 70", "Max-Forwards: 0", 483, ""},
		"extension":   {"Max-Forwards: 70", "Require: 100rel", 420, "unsupported"},
		"body":        {"application/sdp", "application/pidf+xml", 415, "accept"},
		"length":      {"Content-Length: ", "Content-Length: 9", 400, ""},
		"From":        {"From: <sip:alice@127.0.0.1>", "From: \"alice <sip:alice@127.0.0.1>", 400, ""},
		"no From":     {"From:", "X-From:", 400, ""},
		"odd To":      {"To: <sip:1000@127.0.0.1>", "t :\r\n  sip:1000@127.0.0.1;x=1\r\nRequire: x", 420, "unsupported"},
		"no such tag": {"To: <sip:1000@127.0.0.1>", "To: <sip:1000@127.0.0.1>;tag=x", 481, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(p.text(p.invite(offerSDP)), c.from, c.to, 1)
			p.write(text)
			first := p.expect(c.code)
			p.write(text)
			again := p.expect(c.code)
			if first.Tag("to") == "" || first.Tag("to") != again.Tag("to") {
				t.Errorf("To %q, then %q", first.Value("to"), again.Value("to"))
			}
			if c.header != "" && first.Value(c.header) == "" {
				t.Errorf("no %s in %v", c.header, first.Fields)
			}
			if first.Value("call-id") != p.callID || first.Value("cseq") == "" || first.Count("via") != 1 {
				t.Errorf("%v", first.Fields)
			}
			if n := r.ua.txns.size(); n != 0 {
				t.Errorf("%d transactions", n)
			}
		})
	}
	p.send(p.invite(offerSDP))
	p.expect(100)
	q := dial(t, r.ua, "udp")
	q.send(q.invite(offerSDP)) // one more than may be kept
	q.expect(503)
}

// A connection of TLS is a stream like any other.
func TestTLS(t *testing.T) {
	r := start(t, slow)
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{}, Deps{Calls: r.control, Tags: testTags(t), Log: r.ua.log, Metrics: newRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.AddListener("tls", l); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- u.Serve(t.Context()) }()
	defer func() {
		if err := errors.Join(u.Close(t.Context()), <-served); err != nil {
			t.Error(err)
		}
	}()
	roots := x509.NewCertPool()
	trusted, _ := x509.ParseCertificate(der)
	roots.AddCert(trusted)
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	p := phoneOn(t, conn, "TLS")
	tr := &rig{control: r.control, ua: u}
	i, _, ok := talking(t, tr, p)
	if !strings.Contains(ok.Value("contact"), ";transport=tls") || i.Transport != "tls" {
		t.Errorf("%v", ok.Fields)
	}
	d, _ := u.Dialog(i.Leg())
	done := make(chan error, 1)
	go func() { done <- u.Bye(t.Context(), &d) }()
	p.reply(p.expectRequest("BYE"), "200 OK")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

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
