package ua

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c, u, conn
}

func TestAByeNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, conn := bubble(t)
		d := dialog.Dialog{CallID: "x", LocalTag: "l", RemoteTag: "r", LocalURI: "sip:1000@a", RemoteURI: "sip:alice@b",
			RemoteTarget: "sip:alice@192.0.2.1;X=\"y\";ob", Transport: "udp", Source: "192.0.2.1:5060"}
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
		if m := string(<-conn.out); !strings.HasPrefix(m, "BYE sip:alice@192.0.2.1;X=\"y\";ob SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK") {
			t.Errorf("sent %q", m)
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
