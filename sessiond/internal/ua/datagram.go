package ua

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// datagrams is a UDP socket.
type datagrams struct {
	u     *UA
	conn  net.PacketConn
	local netip.AddrPort
}

func (d *datagrams) serve() error {
	read := d.reader()
	buf := make([]byte, 1<<16)
	failures := 0
	for {
		n, remote, err := read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || d.u.wires.isClosed() {
				return nil
			}
			// An ICMP error of an earlier answer may surface here; the socket is
			// fine then. One that fails on and on is not.
			if failures++; failures < 100 {
				continue
			}
			return fmt.Errorf("sip udp %s: %w", d.local, err)
		}
		failures = 0
		// Keep-alives: CRLFs (RFC 5626 §3.5.1), or zero bytes of older phones.
		if len(bytes.Trim(buf[:n], "\r\n\x00")) == 0 {
			continue
		}
		if !d.u.limits.allow(remote.Addr()) {
			d.u.m.dropped.WithLabelValues("rate").Inc()
			continue
		}
		d.u.receive(bytes.Clone(buf[:n]), d.flow(remote))
	}
}

func (d *datagrams) reader() func([]byte) (int, netip.AddrPort, error) {
	if c, ok := d.conn.(*net.UDPConn); ok {
		return func(b []byte) (int, netip.AddrPort, error) {
			n, a, err := c.ReadFromUDPAddrPort(b)
			return n, plain(a), err
		}
	}
	return func(b []byte) (int, netip.AddrPort, error) {
		n, a, err := d.conn.ReadFrom(b)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		ap, err := addrPort(a)
		return n, ap, err
	}
}

func (d *datagrams) flow(remote netip.AddrPort) *flow {
	return &flow{transport: "udp", local: d.local, remote: remote, dest: remote, contact: d.local, send: d.send}
}

func (d *datagrams) send(b []byte, to netip.AddrPort) error {
	var err error
	if c, ok := d.conn.(*net.UDPConn); ok {
		_, err = c.WriteToUDPAddrPort(b, to)
	} else {
		_, err = d.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	return err
}
