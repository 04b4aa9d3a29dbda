// Package engine moves datagrams between the network and one shard. The
// portable engine here binds a pair of UDP sockets for each leg: on Linux the
// shard's own loop waits for all of them with epoll and reads and sends
// without leaving its thread; elsewhere a goroutine reads each socket. An
// engine that steers a whole port range into one socket fits behind the same
// methods.
//
// Open may be called by anyone; all other methods but Wake belong to the
// shard's loop.
package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/callmesh/callmesh/mediad/internal/packet"
)

// Errors of Open that are no fault of the address.
var (
	// ErrPortBusy says that somebody else on this machine has the port.
	ErrPortBusy = errors.New("port is in use by another program")
	// ErrNoSockets says that the process or the system is out of sockets.
	ErrNoSockets = errors.New("no more sockets: raise the limit of open files")
)

// reason gives the errors of binding their meaning.
func reason(err error, at netip.AddrPort) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return ErrPortBusy
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return ErrNoSockets
	}
	return fmt.Errorf("bind %v: %w", at, err)
}

var errForeign = errors.New("endpoint of another engine")

// Endpoint is a bound pair of ports. It must be detached before it is closed,
// or never have been attached.
type Endpoint interface {
	Close()
}

// burst bounds the datagrams of one Receive, so that a flood on one port
// cannot keep a shard from its ticks.
const burst = 256

// datagramSize is the largest datagram taken whole. Audio of 20 ms needs 200
// bytes; what is longer than an Ethernet frame is cut and fails to parse.
const datagramSize = 1536

// expedited is DSCP EF (46) in the TOS byte: voice, RFC 4594 §4.1.
const expedited = 46 << 2

// endpointIndex finds the endpoint of a flow.
type endpointIndex[T any] []*T

func (x *endpointIndex[T]) set(flow packet.Flow, e *T) {
	for int(flow) >= len(*x) {
		*x = append(*x, nil)
	}
	(*x)[flow] = e
}

func (x endpointIndex[T]) get(flow packet.Flow) *T {
	if int(flow) >= len(x) {
		return nil
	}
	return x[flow]
}

func network(addr netip.Addr) string {
	if addr.Is4() {
		return "udp4"
	}
	return "udp6"
}
