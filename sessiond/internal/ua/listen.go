package ua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// wires are the UA's sockets.
type wires struct {
	mu      sync.Mutex
	closed  bool
	sockets []*datagrams
	servers []*listener
	streams map[netip.AddrPort]*stream
	// accepted counts the connections that each source has opened.
	accepted map[netip.Addr]int
	serving  sync.WaitGroup
	failed   chan error
}

// Listen opens the addresses given as "udp:127.0.0.1:5060" or "tcp:[::1]:0". A
// port in use is an error that names it.
func (u *UA) Listen(ctx context.Context, addrs ...string) error {
	var lc net.ListenConfig
	for _, spec := range addrs {
		transport, addr, ok := strings.Cut(spec, ":")
		if !ok {
			return fmt.Errorf("sip listen %q: want transport:host:port", spec)
		}
		var err error
		switch transport {
		case "udp":
			var conn net.PacketConn
			if conn, err = lc.ListenPacket(ctx, "udp", addr); err == nil {
				err = u.AddPacketConn(conn)
			}
		case "tcp":
			var l net.Listener
			if l, err = lc.Listen(ctx, "tcp", addr); err == nil {
				err = u.AddListener("tcp", l)
			}
		default:
			err = errors.New("unknown transport")
		}
		if err != nil {
			return fmt.Errorf("sip listen %q: %w", spec, err)
		}
	}
	return nil
}

// receiveBuffer is what a UDP socket asks the kernel for: the default of about
// 200 kB overflows in a burst of some hundred INVITEs.
const receiveBuffer = 4 << 20

// AddPacketConn adds a socket for UDP. The UA closes it.
func (u *UA) AddPacketConn(conn net.PacketConn) error {
	local, err := addrPort(conn.LocalAddr())
	if err != nil {
		return err
	}
	if err := u.reachable(local); err != nil {
		return errors.Join(err, conn.Close())
	}
	if c, ok := conn.(interface{ SetReadBuffer(int) error }); ok {
		// The kernel may grant less (net.core.rmem_max); that is no reason to fail.
		_ = c.SetReadBuffer(receiveBuffer)
	}
	u.wires.mu.Lock()
	defer u.wires.mu.Unlock()
	u.wires.sockets = append(u.wires.sockets, &datagrams{u: u, conn: conn, local: local})
	return nil
}

// AddListener adds a listener for connections that carry SIP messages as a
// byte stream: "tcp" as it is, "tls" when the listener is one of crypto/tls.
func (u *UA) AddListener(transport string, l net.Listener) error {
	local, err := addrPort(l.Addr())
	if err != nil {
		return err
	}
	if err := u.reachable(local); err != nil {
		return errors.Join(err, l.Close())
	}
	u.wires.mu.Lock()
	defer u.wires.mu.Unlock()
	u.wires.servers = append(u.wires.servers, &listener{u: u, l: l, transport: transport, local: local})
	return nil
}

// reachable refuses a wildcard address that nothing tells the peers how to reach.
func (u *UA) reachable(local netip.AddrPort) error {
	if local.Addr().IsUnspecified() && u.cfg.Advertise == "" {
		return fmt.Errorf("%s is no address a peer can answer to: set advertise", local)
	}
	return nil
}

// addrPort converts an address. An IPv4 address in IPv6 clothes, as dual-stack
// sockets give them, becomes plain.
func addrPort(a net.Addr) (netip.AddrPort, error) {
	switch a := a.(type) {
	case *net.UDPAddr:
		return plain(a.AddrPort()), nil
	case *net.TCPAddr:
		return plain(a.AddrPort()), nil
	}
	ap, err := netip.ParseAddrPort(a.String())
	return plain(ap), err
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Serve receives until Close, or until a socket fails, whose error it returns.
func (u *UA) Serve(ctx context.Context) error {
	w := &u.wires
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.failed = make(chan error, len(w.sockets)+len(w.servers))
	for _, s := range w.sockets {
		w.serving.Go(func() { w.failed <- s.serve() })
	}
	for _, s := range w.servers {
		w.serving.Go(func() {
			s.serve()
			w.failed <- nil
		})
	}
	n := cap(w.failed)
	w.mu.Unlock()
	for range n {
		select {
		case err := <-w.failed:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil // the caller goes on to Close
		}
	}
	return nil
}

// addrs are all bound addresses of a transport.
func (w *wires) addrs(transport string) (all []netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if transport == "udp" {
		for _, s := range w.sockets {
			all = append(all, s.local)
		}
	}
	for _, l := range w.servers {
		if l.transport == transport {
			all = append(all, l.local)
		}
	}
	return all
}

func (w *wires) addr(transport string) netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	if transport == "udp" {
		if len(w.sockets) > 0 {
			return w.sockets[0].local
		}
		return netip.AddrPort{}
	}
	if i := slices.IndexFunc(w.servers, func(l *listener) bool { return l.transport == transport }); i >= 0 {
		return w.servers[i].local
	}
	return netip.AddrPort{}
}

func (w *wires) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.streams)
}

func (w *wires) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, s := range w.sockets {
		_ = s.conn.Close()
	}
	for _, l := range w.servers {
		_ = l.l.Close()
	}
	for _, s := range w.streams {
		_ = s.conn.Close()
	}
}

func (w *wires) wait() { w.serving.Wait() }

func (w *wires) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
