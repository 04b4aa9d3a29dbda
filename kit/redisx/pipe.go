package redisx

import (
	"bytes"
	"context"
	"net"
	"os"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Dialer returns the Dialer option by which a client reaches an in-process
// server without a socket.
func Dialer(server *miniredis.Miniredis) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		conn, err := server.Dial()
		if err != nil {
			return nil, err
		}
		return newBuffered(conn), nil
	}
}

// buffered takes from a net.Pipe all that its other end writes, at once. Without
// it a long pipeline locks up: the client writes on and reads nothing, the server
// waits for its first answer to be read and takes in no more.
type buffered struct {
	net.Conn
	mu       sync.Mutex
	arrived  *sync.Cond
	unread   bytes.Buffer
	err      error
	deadline time.Time
	timer    *time.Timer
}

func newBuffered(conn net.Conn) *buffered {
	b := &buffered{Conn: conn}
	b.arrived = sync.NewCond(&b.mu)
	go b.pump()
	return b
}

// pump ends when either end is closed.
func (b *buffered) pump() {
	chunk := make([]byte, 4096)
	for {
		n, err := b.Conn.Read(chunk)
		b.mu.Lock()
		b.unread.Write(chunk[:n])
		b.err = err
		b.arrived.Broadcast()
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (b *buffered) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.unread.Len() > 0:
			return b.unread.Read(p)
		case b.err != nil:
			return 0, b.err
		case !b.deadline.IsZero() && !time.Now().Before(b.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		b.arrived.Wait()
	}
}

func (b *buffered) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = t
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if !t.IsZero() {
		b.timer = time.AfterFunc(time.Until(t), func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.arrived.Broadcast()
		})
	}
	b.arrived.Broadcast()
	return nil
}

func (b *buffered) SetDeadline(t time.Time) error {
	if err := b.SetReadDeadline(t); err != nil {
		return err
	}
	return b.SetWriteDeadline(t)
}

func (b *buffered) Close() error {
	_ = b.SetReadDeadline(time.Time{})
	return b.Conn.Close()
}
