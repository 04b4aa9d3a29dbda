package ua

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"
)

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
	fl := &flow{transport: "udp", local: netip.MustParseAddrPort("192.0.2.9:5060"), remote: remote, dest: remote, contact: netip.MustParseAddrPort("192.0.2.9:5060"),
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
