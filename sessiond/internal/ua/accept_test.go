package ua

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// exhausted is a listener that runs out of descriptors before every connection.
type exhausted struct {
	net.Listener
	failures int
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	l.failures = 3
	return l.Listener.Accept()
}

func TestExhaustedDescriptorsEndNothing(t *testing.T) {
	r := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reg := newRegistry()
	u, err := New(Config{}, Deps{Calls: r.control, Tags: testTags(t), Log: r.ua.log, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.AddListener("tcp", &exhausted{Listener: l, failures: 3}); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- u.Serve(t.Context()) }()
	for range 2 {
		p := dialAddr(t, l.Addr().String(), "tcp")
		m := p.invite("")
		m.method = "OPTIONS"
		p.send(m)
		p.expect(200)
	}
	if err := errors.Join(u.Close(t.Context()), <-served); err != nil {
		t.Error(err)
	}
	if n := (&rig{control: r.control, ua: u, reg: reg}).counter("callmesh_sip_accept_errors_total", ""); n < 6 {
		t.Errorf("%v failures counted", n)
	}
}

func TestOneSourceGetsAShareOfTheConnections(t *testing.T) {
	r := start(t, func(c *Config, _ *Deps) { c.MaxStreams = 2 * streamShare })
	open := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", r.ua.Addr("tcp").String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	served := func(conn net.Conn) bool {
		if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
			return false
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err := conn.Read(make([]byte, 2)) // the pong
		return err == nil
	}
	first := open("127.0.0.1")
	for name, conn := range map[string]net.Conn{"first": first, "second": open("127.0.0.1")} {
		if !served(conn) {
			t.Errorf("the %s connection is not served", name)
		}
	}
	if served(open("127.0.0.1")) {
		t.Error("one source has more than its share")
	}
	if !served(open("127.0.0.2")) {
		t.Error("another source is shut out")
	}
	_ = first.Close()
	for deadline := time.Now().Add(patience); !served(open("127.0.0.1")); {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}
