package ua

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo/sip"
)

// flow is a way back to where a message came from: an address at a UDP socket,
// or a connection. To sipgo's transactions it is their connection.
type flow struct {
	transport string // "udp", "tcp"
	local     netip.AddrPort
	remote    netip.AddrPort
	// contact is where we can be reached; on a connection we made ourselves its
	// port is not the local one.
	contact netip.AddrPort
	// dest is where answers go: remote, or for UDP perhaps another port of it.
	dest netip.AddrPort
	send func(b []byte, to netip.AddrPort) error
}

var _ sip.Connection = (*flow)(nil)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// WriteMsg sends a message along the flow, whatever its Destination says.
func (f *flow) WriteMsg(msg sip.Message) error {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	msg.StringWrite(b)
	return f.send(b.Bytes(), f.dest)
}

// LocalAddr is part of sip.Connection, as are the three below: sockets are
// closed by their listener, never by a transaction.
func (f *flow) LocalAddr() net.Addr {
	if f.reliable() {
		return net.TCPAddrFromAddrPort(f.local)
	}
	return net.UDPAddrFromAddrPort(f.local)
}
func (f *flow) Ref(int) int            { return 1 }
func (f *flow) TryClose() (int, error) { return 1, nil }
func (f *flow) Close() error           { return nil }

func (f *flow) reliable() bool { return f.transport != "udp" }

var errNoFlow = errors.New("ua: the connection is gone")
