package ua

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/sipcheck"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

const (
	// writeWait bounds a write to a peer that does not read.
	writeWait = 5 * time.Second
	dialWait  = 5 * time.Second
	// acceptPause follows a failed accept, doubled up to maxAcceptPause.
	acceptPause    = 5 * time.Millisecond
	maxAcceptPause = time.Second
	// streamShare is the part of all connections that one source may open, 1/4.
	streamShare = 4
)

// listener accepts connections.
type listener struct {
	u         *UA
	l         net.Listener
	transport string
	local     netip.AddrPort
}

// serve accepts until the listener is closed. Every other failure passes: a
// process out of descriptors (EMFILE) has calls to keep, and gets some back.
func (l *listener) serve() {
	pause := acceptPause
	for {
		conn, err := l.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || l.u.wires.isClosed() {
				return
			}
			l.u.m.acceptErrors.Inc()
			if pause == acceptPause { // once for each run of failures
				l.u.log.Error("SIP connection not accepted", "transport", l.transport, "local", l.local.String(), "err", err)
			}
			select {
			case <-time.After(pause):
			case <-l.u.life.Done():
				return
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = acceptPause
		if !l.u.wires.open(l.u, conn, l.transport, l.local.Port(), true) {
			l.u.m.dropped.WithLabelValues("connections").Inc()
			_ = conn.Close()
		}
	}
}

// stream is a connection.
type stream struct {
	u    *UA
	conn net.Conn
	flow *flow
	mu   sync.Mutex // one writer at a time
}

// open starts reading a connection; false if there are too many. Those that
// were accepted are bounded by source, too: one host must not take all of them.
func (w *wires) open(u *UA, conn net.Conn, transport string, port uint16, accepted bool) bool {
	remote, err := addrPort(conn.RemoteAddr())
	if err != nil {
		return false
	}
	local, err := addrPort(conn.LocalAddr())
	if err != nil {
		return false
	}
	if port == 0 { // no listener: this connection is all there is
		port = local.Port()
	}
	s := &stream{u: u, conn: conn}
	s.flow = &flow{transport: transport, local: local, remote: remote, dest: remote, contact: netip.AddrPortFrom(local.Addr(), port), send: s.send}
	w.mu.Lock()
	defer w.mu.Unlock()
	from := sourceOf(remote.Addr())
	if w.closed || len(w.streams) >= u.cfg.MaxStreams || accepted && w.accepted[from] >= max(1, u.cfg.MaxStreams/streamShare) {
		return false
	}
	if w.streams == nil {
		w.streams, w.accepted = make(map[netip.AddrPort]*stream), make(map[netip.Addr]int)
	}
	w.streams[remote] = s
	if accepted {
		w.accepted[from]++
	}
	w.serving.Go(func() {
		s.read()
		_ = conn.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.streams[remote] == s {
			delete(w.streams, remote)
		}
		if !accepted {
			return
		}
		if w.accepted[from]--; w.accepted[from] == 0 {
			delete(w.accepted, from)
		}
	})
	return true
}

func (s *stream) send(b []byte, _ netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return errors.Join(errNoFlow, err)
	}
	if _, err := s.conn.Write(b); err != nil {
		// Part of a message may be out: the stream has lost its frame.
		_ = s.conn.Close()
		return errors.Join(errNoFlow, err)
	}
	return nil
}

func (s *stream) read() {
	var have []byte
	buf := make([]byte, 16<<10)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.u.cfg.StreamIdle)); err != nil {
			return
		}
		n, err := s.conn.Read(buf)
		have = append(have, buf[:n]...)
		for {
			var msg []byte
			var ok bool
			if msg, have, ok = s.frame(have); !ok {
				return
			}
			if msg == nil {
				break
			}
			if !s.u.limits.allow(s.flow.remote.Addr()) {
				s.u.m.dropped.WithLabelValues("rate").Inc()
				continue
			}
			s.u.receive(msg, s.flow)
		}
		if err != nil {
			return
		}
	}
}

// frame takes a message off the front of b (RFC 3261 §18.3): nil if it is not
// whole yet, ok=false if the stream can no longer be followed.
func (s *stream) frame(b []byte) (msg, rest []byte, ok bool) {
	for len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		if len(b) >= 4 && b[2] == '\r' && b[3] == '\n' { // ping, answered by a pong
			if s.send([]byte("\r\n"), s.flow.remote) != nil {
				return nil, nil, false
			}
			b = b[2:]
		}
		b = b[2:]
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > sipcheck.MaxMessage {
			s.u.m.dropped.WithLabelValues("oversize").Inc()
			return nil, nil, false
		}
		return nil, b, true
	}
	end += 4
	m, _ := header.Scan(b[:end])
	length, err := strconv.ParseUint(strings.TrimSpace(m.Value("content-length")), 10, 31)
	if err != nil || m.Count("content-length") != 1 || end+int(length) > sipcheck.MaxMessage {
		// No telling where the next message starts: answer this one and hang up.
		s.u.receive(bytes.Clone(b[:end]), s.flow)
		return nil, nil, false
	}
	whole := end + int(length)
	if len(b) < whole {
		return nil, b, true
	}
	return bytes.Clone(b[:whole]), b[whole:], true
}

// stream returns the flow of an open connection, or nil.
func (w *wires) stream(remote netip.AddrPort) *flow {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.streams[remote]; s != nil {
		return s.flow
	}
	return nil
}

// flowTo finds or makes a way to an address.
func (u *UA) flowTo(ctx context.Context, transport string, to netip.AddrPort) (*flow, error) {
	w := &u.wires
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, ErrClosed
	}
	if transport == "udp" {
		defer w.mu.Unlock()
		for _, d := range w.sockets {
			if d.local.Addr().Is4() == to.Addr().Is4() || d.local.Addr() == netip.IPv6Unspecified() {
				return d.flow(to), nil
			}
		}
		return nil, fmt.Errorf("ua: no udp socket towards %s", to)
	}
	w.mu.Unlock()
	if fl := w.stream(to); fl != nil {
		return fl, nil
	}
	if transport != "tcp" {
		return nil, fmt.Errorf("ua: no connection to %s over %s", to, transport)
	}
	d := net.Dialer{Timeout: dialWait}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("ua: %w", err)
	}
	if !w.open(u, conn, "tcp", w.addr("tcp").Port(), false) {
		return nil, errors.Join(ErrClosed, conn.Close())
	}
	if fl := w.stream(to); fl != nil {
		return fl, nil
	}
	return nil, errNoFlow
}
