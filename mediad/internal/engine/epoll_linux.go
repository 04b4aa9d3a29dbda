package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/callmesh/callmesh/mediad/internal/packet"
)

// Epoll is the portable engine on Linux. All of a shard's sockets are in one
// epoll set; reading and sending are single system calls that never block and
// so need not tell the scheduler, which costs more than they do.
type Epoll struct {
	fd, wake  int
	waking    sync.RWMutex // Close must not free wake under a Wake
	closed    bool
	events    []unix.EpollEvent
	flows     endpointIndex[epollEndpoint]
	datagrams []packet.Datagram
	memory    []byte
	from      unix.RawSockaddrAny
	to4       unix.RawSockaddrInet4
	to6       unix.RawSockaddrInet6
}

// epollEndpoint is a leg's pair of sockets.
type epollEndpoint struct {
	fds [2]int // RTP, RTCP
}

// wakeData marks the event of the wake descriptor; flows count up from 0.
const wakeData = -1

// NewEpoll returns an engine without endpoints.
func NewEpoll() (*Epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(fd))
	}
	e := &Epoll{
		fd: fd, wake: wake, events: make([]unix.EpollEvent, burst),
		datagrams: make([]packet.Datagram, 0, burst), memory: make([]byte, burst*datagramSize),
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeData}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), e.Close())
	}
	return e, nil
}

// Open binds port and the one above it.
func (e *Epoll) Open(addr netip.Addr, port uint16) (Endpoint, error) {
	pair := &epollEndpoint{fds: [2]int{-1, -1}}
	for i := range pair.fds {
		fd, err := bind(addr, port+uint16(i))
		if err != nil {
			pair.Close()
			return nil, err
		}
		pair.fds[i] = fd
	}
	return pair, nil
}

func bind(addr netip.Addr, port uint16) (int, error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS
	if addr.Is6() {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, reason(err, netip.AddrPortFrom(addr, port))
	}
	// Marking is a courtesy to the network: calls work without.
	_ = unix.SetsockoptInt(fd, level, option, expedited)
	var name unix.Sockaddr = &unix.SockaddrInet4{Port: int(port), Addr: as4(addr)}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1) // IPv4 has its own addresses
		name = &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()}
	}
	if err := unix.Bind(fd, name); err != nil {
		_ = unix.Close(fd) // the bind error is the one to tell
		return -1, reason(err, netip.AddrPortFrom(addr, port))
	}
	return fd, nil
}

// Close frees the ports. Closing takes the sockets out of the epoll set.
func (p *epollEndpoint) Close() {
	for i, fd := range p.fds {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing is buffered that could be lost
			p.fds[i] = -1
		}
	}
}

// Attach delivers the endpoint's datagrams as those of flow.
func (e *Epoll) Attach(flow packet.Flow, endpoint Endpoint) error {
	p, ok := endpoint.(*epollEndpoint)
	if !ok {
		return errForeign
	}
	for i, fd := range p.fds {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(flow)<<1 | int32(i)}
		if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	e.flows.set(flow, p)
	return nil
}

// Detach stops delivering.
func (e *Epoll) Detach(flow packet.Flow) {
	p := e.flows.get(flow)
	if p == nil {
		return
	}
	for _, fd := range p.fds {
		_ = unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, fd, nil) // a closed one has left by itself
	}
	e.flows.set(flow, nil)
}

// Receive waits for datagrams until there are some, until the wait is over or
// Wake is called. They are valid until the next Receive. Readiness is level
// triggered and each ready socket is read once: with one packet in 20 ms a
// second read would find nothing.
func (e *Epoll) Receive(wait time.Duration) []packet.Datagram {
	e.datagrams = e.datagrams[:0]
	n := e.poll(wait)
	for i := range n {
		event := &e.events[i]
		if event.Fd == wakeData {
			var count [8]byte
			_, _ = unix.Read(e.wake, count[:]) // only resets it
			continue
		}
		e.read(packet.Flow(event.Fd>>1), event.Fd&1 == 1)
	}
	return e.datagrams
}

func (e *Epoll) poll(wait time.Duration) int {
	if wait <= 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), burst, 0, 0, 0)
		if errno != 0 {
			return 0
		}
		return int(n)
	}
	// Rounded up: waking early would only mean to wait again.
	ms := int((wait + time.Millisecond - 1) / time.Millisecond)
	n, err := unix.EpollWait(e.fd, e.events, ms)
	if err != nil {
		return 0 // EINTR: the loop looks at the clock and comes back
	}
	return n
}

func (e *Epoll) read(flow packet.Flow, rtcp bool) {
	p := e.flows.get(flow)
	if p == nil {
		return
	}
	start := len(e.datagrams) * datagramSize
	buffer := e.memory[start : start+datagramSize]
	length := uint32(unsafe.Sizeof(e.from))
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(p.fds[index(rtcp)]),
		uintptr(unsafe.Pointer(&buffer[0])), datagramSize, unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&e.from)), uintptr(unsafe.Pointer(&length)))
	if errno != 0 {
		return // an ICMP error of something sent, or a bad checksum
	}
	e.datagrams = append(e.datagrams, packet.Datagram{Flow: flow, RTCP: rtcp, Addr: e.sender(), Data: buffer[:n]})
}

func index(rtcp bool) int {
	if rtcp {
		return 1
	}
	return 0
}

// sender reads the address that recvfrom wrote.
func (e *Epoll) sender() netip.AddrPort {
	switch e.from.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.from))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), hostOrder(sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&e.from))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), hostOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// hostOrder turns a port in network byte order.
func hostOrder(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// Send hands datagrams to the network and returns how many it took.
func (e *Epoll) Send(batch []packet.Datagram) int {
	sent := 0
	for i := range batch {
		d := &batch[i]
		p := e.flows.get(d.Flow)
		if p == nil || len(d.Data) == 0 {
			continue
		}
		fd := p.fds[index(d.RTCP)]
		errno := e.sendto(fd, d)
		if errno == unix.ECONNREFUSED {
			// Tells of an earlier datagram; this one has not been sent.
			errno = e.sendto(fd, d)
		}
		if errno == 0 {
			sent++
		}
	}
	return sent
}

func (e *Epoll) sendto(fd int, d *packet.Datagram) syscall.Errno {
	var (
		name   unsafe.Pointer
		length uintptr
		port   = hostOrder(d.Addr.Port()) // the swap is its own inverse
	)
	if addr := d.Addr.Addr(); addr.Is4() {
		e.to4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: addr.As4()}
		name, length = unsafe.Pointer(&e.to4), unsafe.Sizeof(e.to4)
	} else {
		e.to6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: addr.As16()}
		name, length = unsafe.Pointer(&e.to6), unsafe.Sizeof(e.to6)
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(&d.Data[0])), uintptr(len(d.Data)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
		uintptr(name), length)
	return errno
}

// Wake ends a Receive that waits. Anyone may call it, also after Close: the
// number of a closed descriptor may be somebody else's by then.
func (e *Epoll) Wake() {
	e.waking.RLock()
	defer e.waking.RUnlock()
	if e.closed {
		return
	}
	one := [8]byte{1}
	if isBigEndian() {
		one = [8]byte{7: 1}
	}
	_, _ = unix.Write(e.wake, one[:]) // full means that it is awake already
}

func isBigEndian() bool { return hostOrder(1) == 1 }

// Close frees the engine's own descriptors.
func (e *Epoll) Close() error {
	e.waking.Lock()
	defer e.waking.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(os.NewSyscallError("close", unix.Close(e.fd)), os.NewSyscallError("close", unix.Close(e.wake)))
}

func as4(addr netip.Addr) [4]byte {
	if addr.Is4() {
		return addr.As4()
	}
	return [4]byte{}
}
