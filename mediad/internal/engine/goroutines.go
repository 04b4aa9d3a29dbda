package engine

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/packet"
)

// Goroutines is the portable engine of any operating system: one goroutine
// reads each socket into a bounded queue.
type Goroutines struct {
	arrived   chan arrival
	wake      chan struct{}
	timer     *time.Timer
	buffers   sync.Pool
	readers   sync.WaitGroup
	flows     endpointIndex[goEndpoint]
	lent      []*[datagramSize]byte
	datagrams []packet.Datagram
}

// goEndpoint is a leg's pair of sockets.
type goEndpoint struct {
	conns [2]*net.UDPConn // RTP, RTCP
	flow  packet.Flow
}

type arrival struct {
	from     netip.AddrPort
	endpoint *goEndpoint
	rtcp     bool
	buffer   *[datagramSize]byte
	size     int
}

// NewGoroutines returns an engine without endpoints.
func NewGoroutines() *Goroutines {
	g := &Goroutines{
		arrived: make(chan arrival, 4*burst), wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
		lent: make([]*[datagramSize]byte, 0, burst), datagrams: make([]packet.Datagram, 0, burst),
	}
	g.buffers.New = func() any { return new([datagramSize]byte) }
	return g
}

// Open binds port and the one above it.
func (g *Goroutines) Open(addr netip.Addr, port uint16) (Endpoint, error) {
	e := &goEndpoint{}
	for i := range e.conns {
		at := netip.AddrPortFrom(addr, port+uint16(i))
		conn, err := net.ListenUDP(network(addr), net.UDPAddrFromAddrPort(at))
		if err != nil {
			e.Close()
			return nil, reason(err, at)
		}
		e.conns[i] = conn
	}
	return e, nil
}

// Close frees the ports; whoever reads them notices.
func (e *goEndpoint) Close() {
	for _, c := range e.conns {
		if c != nil {
			_ = c.Close() // nothing is buffered that could be lost
		}
	}
}

// Attach delivers the endpoint's datagrams as those of flow.
func (g *Goroutines) Attach(flow packet.Flow, endpoint Endpoint) error {
	e, ok := endpoint.(*goEndpoint)
	if !ok {
		return errForeign
	}
	e.flow = flow
	g.flows.set(flow, e)
	for i, c := range e.conns {
		g.readers.Go(func() { g.read(e, c, i == 1) })
	}
	return nil
}

// Detach stops delivering.
func (g *Goroutines) Detach(flow packet.Flow) { g.flows.set(flow, nil) }

// read runs until the socket is closed.
func (g *Goroutines) read(e *goEndpoint, c *net.UDPConn, rtcp bool) {
	for {
		buffer := g.buffers.Get().(*[datagramSize]byte)
		n, from, err := c.ReadFromUDPAddrPort(buffer[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An ICMP error of something sent: the socket lives on.
			g.buffers.Put(buffer)
			continue
		}
		select {
		case g.arrived <- arrival{from: unmapped(from), endpoint: e, rtcp: rtcp, buffer: buffer, size: n}:
		default: // the shard is behind: as if the network had lost it
			g.buffers.Put(buffer)
		}
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Receive waits for datagrams until there are some, until the wait is over or
// Wake is called. They are valid until the next Receive.
func (g *Goroutines) Receive(wait time.Duration) []packet.Datagram {
	for _, b := range g.lent {
		g.buffers.Put(b)
	}
	g.lent, g.datagrams = g.lent[:0], g.datagrams[:0]
	if wait > 0 {
		g.timer.Reset(wait)
		select {
		case a := <-g.arrived:
			g.take(a)
		case <-g.wake:
		case <-g.timer.C:
		}
	}
	for len(g.lent) < burst {
		select {
		case a := <-g.arrived:
			g.take(a)
		default:
			return g.datagrams
		}
	}
	return g.datagrams
}

func (g *Goroutines) take(a arrival) {
	g.lent = append(g.lent, a.buffer)
	// The endpoint may have been detached while the datagram was queued.
	if g.flows.get(a.endpoint.flow) != a.endpoint {
		return
	}
	g.datagrams = append(g.datagrams, packet.Datagram{
		Flow: a.endpoint.flow, RTCP: a.rtcp, Addr: a.from, Data: a.buffer[:a.size],
	})
}

// Send hands datagrams to the network and returns how many it took.
func (g *Goroutines) Send(batch []packet.Datagram) int {
	sent := 0
	for i := range batch {
		d := &batch[i]
		e := g.flows.get(d.Flow)
		if e == nil {
			continue
		}
		conn := e.conns[0]
		if d.RTCP {
			conn = e.conns[1]
		}
		if _, err := conn.WriteToUDPAddrPort(d.Data, d.Addr); err == nil {
			sent++
		}
	}
	return sent
}

// Wake ends a Receive that waits. Anyone may call it.
func (g *Goroutines) Wake() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Close waits for the readers; their endpoints must be closed.
func (g *Goroutines) Close() error {
	g.readers.Wait()
	g.timer.Stop()
	return nil
}
