package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// contract is what a shard relies on.
type contract interface {
	Open(netip.Addr, uint16) (engine.Endpoint, error)
	Attach(packet.Flow, engine.Endpoint) error
	Detach(packet.Flow)
	Receive(time.Duration) []packet.Datagram
	Send([]packet.Datagram) int
	Wake()
	Close() error
}

// engines are all implementations: each must keep the contract.
func engines(t *testing.T, run func(t *testing.T, e contract)) {
	for name, make := range map[string]func() (contract, error){
		"portable":   func() (contract, error) { return engine.NewPortable() },
		"goroutines": func() (contract, error) { return engine.NewGoroutines(), nil },
	} {
		t.Run(name, func(t *testing.T) {
			e, err := make()
			if err != nil {
				t.Fatal(err)
			}
			run(t, e)
		})
	}
}

// open binds any pair that is free.
func open(t *testing.T, e contract, ip netip.Addr) (engine.Endpoint, uint16) {
	t.Helper()
	for port := uint16(30000); port < 60000; port += 2 {
		endpoint, err := e.Open(ip, port)
		if errors.Is(err, engine.ErrPortBusy) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return endpoint, port
	}
	t.Fatal("no free pair of ports")
	return nil, 0
}

func farEnd(t *testing.T, ip netip.Addr) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return conn, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// collect receives until n datagrams are there.
func collect(t *testing.T, e contract, n int) (out []packet.Datagram) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); len(out) < n; {
		if time.Now().After(end) {
			t.Fatalf("%d datagrams of %d", len(out), n)
		}
		for _, d := range e.Receive(50 * time.Millisecond) {
			d.Data = append([]byte(nil), d.Data...)
			out = append(out, d)
		}
	}
	return out
}

func TestDatagramsGoBothWays(t *testing.T) {
	for _, ip := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		engines(t, func(t *testing.T, e contract) {
			far, at := farEnd(t, ip)
			var endpoints [2]engine.Endpoint
			var ports [2]uint16
			for flow := range endpoints {
				endpoints[flow], ports[flow] = open(t, e, ip)
				if err := e.Attach(packet.Flow(flow), endpoints[flow]); err != nil {
					t.Fatal(err)
				}
			}
			// In: each port says which flow and which of the pair it is.
			for flow, port := range ports {
				for i := range uint16(2) {
					text := fmt.Sprint(flow, i)
					if _, err := far.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(ip, port+i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, d := range collect(t, e, 4) {
				rtcp := 0
				if d.RTCP {
					rtcp = 1
				}
				if string(d.Data) != fmt.Sprint(int(d.Flow), rtcp) || d.Addr != at {
					t.Errorf("%q on flow %d, RTCP %v, from %v", d.Data, d.Flow, d.RTCP, d.Addr)
				}
			}
			// Out: the source port is the flow's.
			sent := e.Send([]packet.Datagram{{Flow: 1, Addr: at, Data: []byte("x")}, {Flow: 0, RTCP: true, Addr: at, Data: []byte("y")}, {Flow: 9, Addr: at, Data: []byte("z")}})
			if sent != 2 {
				t.Errorf("sent %d of 2", sent)
			}
			buffer := make([]byte, 10)
			for range 2 {
				n, from, err := far.ReadFromUDPAddrPort(buffer)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]uint16{"x": ports[1], "y": ports[0] + 1}[string(buffer[:n])]
				if from.Port() != want {
					t.Errorf("%q came from port %d, want %d", buffer[:n], from.Port(), want)
				}
			}
			// Detached: nothing arrives any more.
			e.Detach(0)
			if _, err := far.WriteToUDPAddrPort([]byte("00"), netip.AddrPortFrom(ip, ports[0])); err != nil {
				t.Fatal(err)
			}
			if _, err := far.WriteToUDPAddrPort([]byte("10"), netip.AddrPortFrom(ip, ports[1])); err != nil {
				t.Fatal(err)
			}
			for _, d := range collect(t, e, 1) {
				if d.Flow == 0 {
					t.Error("a detached flow still delivers")
				}
			}
			for _, p := range endpoints {
				p.Close()
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPairInUseIsBusy(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	engines(t, func(t *testing.T, e contract) {
		endpoint, port := open(t, e, ip)
		if _, err := e.Open(ip, port); !errors.Is(err, engine.ErrPortBusy) {
			t.Errorf("err = %v", err)
		}
		// Only the odd port is taken: the even one must be free again after.
		if _, err := e.Open(ip, port-1); !errors.Is(err, engine.ErrPortBusy) {
			t.Errorf("err = %v", err)
		}
		endpoint.Close()
		again, err := e.Open(ip, port)
		if err != nil {
			t.Fatalf("after closing: %v", err)
		}
		again.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWakeEndsTheWait(t *testing.T) {
	engines(t, func(t *testing.T, e contract) {
		begin := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.Wake()
		}()
		e.Receive(time.Minute)
		if waited := time.Since(begin); waited > 10*time.Second {
			t.Errorf("waited %v", waited)
		}
		<-done
		if got := e.Receive(time.Millisecond); len(got) != 0 {
			t.Errorf("%d datagrams from nowhere", len(got))
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A far end that closed its port answers with ICMP; sending must go on.
// A closed descriptor's number goes to whoever opens something next: a late
// Wake must not write there.
func TestWakeAfterCloseTouchesNothing(t *testing.T) {
	engines(t, func(t *testing.T, e contract) {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		var pipes [][2]*os.File
		for range 8 {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			pipes = append(pipes, [2]*os.File{r, w})
		}
		e.Wake()
		for _, p := range pipes {
			_ = p[1].Close()
			if got, err := io.ReadAll(p[0]); err != nil || len(got) > 0 {
				t.Errorf("%d bytes in a pipe of somebody else, %v", len(got), err)
			}
			_ = p[0].Close()
		}
	})
}

func TestAnUnreachableFarEndDoesNotDisturb(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	engines(t, func(t *testing.T, e contract) {
		gone, dead := farEnd(t, ip)
		_ = gone.Close()
		far, at := farEnd(t, ip)
		endpoint, port := open(t, e, ip)
		if err := e.Attach(0, endpoint); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			e.Send([]packet.Datagram{{Addr: dead, Data: []byte("lost")}})
			if n := e.Send([]packet.Datagram{{Addr: at, Data: []byte("kept")}}); n != 1 {
				t.Error("a datagram to a living far end was not sent")
			}
		}
		buffer := make([]byte, 10)
		for range 10 {
			if _, _, err := far.ReadFromUDPAddrPort(buffer); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := far.WriteToUDPAddrPort([]byte("in"), netip.AddrPortFrom(ip, port)); err != nil {
			t.Fatal(err)
		}
		collect(t, e, 1)
		endpoint.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkSend(b *testing.B) {
	for name, e := range benchEngines(b) {
		b.Run(name, func(b *testing.B) {
			far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer far.Close()
			endpoint := benchOpen(b, e)
			if err := e.Attach(0, endpoint); err != nil {
				b.Fatal(err)
			}
			batch := []packet.Datagram{{Addr: far.LocalAddr().(*net.UDPAddr).AddrPort(), Data: make([]byte, 172)}}
			b.ReportAllocs()
			for b.Loop() {
				e.Send(batch)
			}
			endpoint.Close()
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkReceive includes the far end's send of each datagram.
func BenchmarkReceive(b *testing.B) {
	for name, e := range benchEngines(b) {
		b.Run(name, func(b *testing.B) {
			far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer far.Close()
			endpoint := benchOpen(b, e)
			if err := e.Attach(0, endpoint); err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 172)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := far.WriteToUDPAddrPort(data, benchPort); err != nil {
					b.Fatal(err)
				}
				for len(e.Receive(time.Second)) == 0 {
				}
			}
			endpoint.Close()
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

var benchPort netip.AddrPort

func benchEngines(b *testing.B) map[string]contract {
	b.Helper()
	portable, err := engine.NewPortable()
	if err != nil {
		b.Fatal(err)
	}
	return map[string]contract{"portable": portable, "goroutines": engine.NewGoroutines()}
}

func benchOpen(b *testing.B, e contract) engine.Endpoint {
	b.Helper()
	ip := netip.MustParseAddr("127.0.0.1")
	for port := uint16(30000); port < 60000; port += 2 {
		if endpoint, err := e.Open(ip, port); err == nil {
			benchPort = netip.AddrPortFrom(ip, port)
			return endpoint
		}
	}
	b.Fatal("no free pair of ports")
	return nil
}
