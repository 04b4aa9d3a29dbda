package ua

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

func stored(target, transport, source string) *dialog.Dialog {
	return &dialog.Dialog{CallID: "x", LocalTag: "l", RemoteTag: "r", LocalURI: "sip:1000@a", RemoteURI: "sip:alice@b",
		RemoteTarget: target, Transport: transport, Source: source}
}

// bye has the UA hang up d, which the phone confirms.
func byeTo(t *testing.T, r *rig, d *dialog.Dialog, p func() *phone) string {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.ua.Bye(t.Context(), d) }()
	far := p()
	m := far.expectRequest("BYE")
	far.reply(m, "200 OK")
	if err := <-done; err != nil {
		t.Error(err)
	}
	return m.StartLine
}

func TestAConnectionIsMadeWhereNoneIsLeft(t *testing.T) {
	r := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	d := stored("sip:alice@localhost:"+port+";transport=TCP", "tcp", "127.0.0.1:1")
	var p *phone
	line := byeTo(t, r, d, func() *phone {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p = phoneOn(t, conn, "TCP")
		return p
	})
	if line != "BYE sip:alice@localhost:"+port+";transport=TCP SIP/2.0" {
		t.Errorf("%q", line)
	}
	// And used again, also for what comes from there.
	byeTo(t, r, d, func() *phone { return p })
	m := p.invite("")
	m.method = "OPTIONS"
	p.send(m)
	if ok := p.expect(200); strings.Contains(ok.StartLine, "x") {
		t.Error(ok)
	}
	if n := r.ua.wires.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestTheConnectionOfTheLastRequestIsUsed(t *testing.T) {
	r := start(t)
	p := dial(t, r.ua, "tcp")
	p.silent()
	// Contact and route lead nowhere: a client behind a NAT, a proxy's listener.
	d := stored("sip:alice@10.255.255.1:9", "tcp", p.local)
	d.RouteSet = []string{"sip:10.255.255.2:9;lr"}
	byeTo(t, r, d, func() *phone { return p })
}

func TestBehindANAT(t *testing.T) {
	source := netip.MustParseAddrPort("203.0.113.9:4000")
	for target, want := range map[string]bool{
		"sip:a@10.0.0.1": true, "sip:a@192.168.1.1:5062": true, "sip:a@127.0.0.1": true, "sip:a@[fd00::1]": true,
		"sip:a@203.0.113.9:5060": false, "sip:a@198.51.100.1": false, "sip:a@phone.example.com": false,
	} {
		if got := behindNAT(target, source); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
	r := start(t)
	p := dial(t, r.ua, "udp")
	byeTo(t, r, stored("sip:alice@10.255.255.1:5060", "udp", p.local), func() *phone { return p })
}

func TestNoWayToSend(t *testing.T) {
	r := start(t)
	for name, d := range map[string]*dialog.Dialog{
		"no target":         stored("", "udp", ""),
		"no host":           stored("sip:", "udp", ""),
		"no socket for it":  stored("sip:a@[2001:db8::1]:5060", "udp", ""),
		"unknown transport": stored("sip:a@127.0.0.1:9;transport=sctp", "udp", ""),
		"nobody listens":    stored("sip:a@127.0.0.1:1", "tcp", ""),
		"no such name":      stored("sip:a@no-such-host.invalid:5060", "udp", ""),
	} {
		if err := r.ua.Bye(t.Context(), d); err == nil || errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResolve(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:a@192.0.2.1":                    "udp 192.0.2.1:5060",
		"sip:a@192.0.2.1:5070;transport=tcp": "tcp 192.0.2.1:5070",
		"sip:a@[2001:db8::1];transport=TLS":  "tls [2001:db8::1]:5061",
		"sip:192.0.2.1;lr":                   "udp 192.0.2.1:5060",
	} {
		transport, to, err := resolve(t.Context(), uri, "")
		if got := transport + " " + to.String(); err != nil || got != want {
			t.Errorf("%s: %s %v", uri, got, err)
		}
	}
}

func TestACallerThatIsGone(t *testing.T) {
	r := start(t, slow)
	p := dial(t, r.ua, "tcp")
	p.send(p.invite(offerSDP))
	i := r.bound()
	_ = p.conn.Close()
	eventually(t, func() error {
		if r.ua.wires.connections() > 0 {
			return errors.New("the connection is open")
		}
		return nil
	})
	if _, err := i.Accept([]byte(offerSDP)); err == nil {
		t.Error("200 was sent to nobody")
	}
	if n := r.ua.legs.size(); n != 0 {
		t.Errorf("%d dialogs", n)
	}
}
