package phone

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fate is what the phone's network does to one of its outgoing messages.
type Fate int

// The fates.
const (
	Deliver Fate = iota
	Drop
	Twice
)

// transport carries messages between the phone and its peers.
type transport interface {
	send(to string, data []byte) error
	local() string
	close() error
}

// receiver takes what arrives; reply sends on the way back.
type receiver func(data []byte, reply func([]byte) error)

// udp is one socket for everything.
type udp struct {
	conn net.PacketConn
	wg   sync.WaitGroup
}

func listenUDP(host string, receive receiver) (*udp, error) {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	u := &udp{conn: conn}
	u.wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			receive(bytes.Clone(buf[:n]), func(data []byte) error {
				_, err := conn.WriteTo(data, from)
				return err
			})
		}
	})
	return u, nil
}

func (u *udp) send(to string, data []byte) error {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	_, err = u.conn.WriteTo(data, addr)
	return err
}

func (u *udp) local() string { return u.conn.LocalAddr().String() }

func (u *udp) close() error {
	err := u.conn.Close()
	u.wg.Wait()
	return err
}

// tcp keeps one connection per peer and takes connections of its own.
type tcp struct {
	listener net.Listener
	receive  receiver
	wg       sync.WaitGroup
	mu       sync.Mutex
	closed   bool
	conns    map[string]net.Conn
}

func listenTCP(host string, receive receiver) (*tcp, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	t := &tcp{listener: l, receive: receive, conns: make(map[string]net.Conn)}
	t.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := t.adopt(conn.RemoteAddr().String(), conn); err != nil {
				return
			}
		}
	})
	return t, nil
}

func (t *tcp) adopt(peer string, conn net.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = conn.Close()
		return net.ErrClosed
	}
	t.conns[peer] = conn
	t.wg.Go(func() {
		defer t.forget(peer, conn)
		r := bufio.NewReader(conn)
		for {
			data, err := readStream(r)
			if err != nil {
				return
			}
			t.receive(data, func(data []byte) error { return write(conn, data) })
		}
	})
	return nil
}

func (t *tcp) forget(peer string, conn net.Conn) {
	_ = conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[peer] == conn {
		delete(t.conns, peer)
	}
}

func (t *tcp) send(to string, data []byte) error {
	t.mu.Lock()
	conn := t.conns[to]
	t.mu.Unlock()
	if conn == nil {
		fresh, err := net.DialTimeout("tcp", to, 5*time.Second)
		if err != nil {
			return err
		}
		if err := t.adopt(to, fresh); err != nil {
			return err
		}
		conn = fresh
	}
	return write(conn, data)
}

func write(conn net.Conn, data []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err := conn.Write(data)
	return err
}

func (t *tcp) local() string { return t.listener.Addr().String() }

func (t *tcp) close() error {
	err := t.listener.Close()
	t.mu.Lock()
	t.closed = true
	for _, conn := range t.conns {
		_ = conn.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return err
}

// readStream cuts the next message out of a stream: headers up to the empty
// line, then as much body as Content-Length says (RFC 3261 §18.3).
func readStream(r *bufio.Reader) ([]byte, error) {
	var head bytes.Buffer
	length := -1
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if head.Len() == 0 && strings.TrimRight(line, "\r\n") == "" {
			continue // keep-alive CRLF between messages, RFC 5626 §3.5.1
		}
		head.WriteString(line)
		if head.Len() > maxMessage {
			return nil, errors.New("endless headers")
		}
		if line == "\r\n" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "l") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return nil, fmt.Errorf("Content-Length: %w", err)
			}
		}
	}
	if length < 0 || length > maxMessage {
		return nil, fmt.Errorf("Content-Length %d on a stream", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return append(head.Bytes(), body...), nil
}
