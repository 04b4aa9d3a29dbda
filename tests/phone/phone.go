package phone

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Config is how a phone behaves. The zero value is a polite UDP phone.
type Config struct {
	// Transport is "udp" (default) or "tcp".
	Transport string
	// Host is the address to bind; 127.0.0.1 by default.
	Host string
	// User is the user part of From; "phone" by default.
	User string
	// Codecs to offer, in order of preference; PCMU and PCMA by default.
	Codecs []Codec
	// T1 is the round-trip estimate of RFC 3261 §17; 500 ms by default.
	T1 time.Duration
	// Fate is asked for each outgoing SIP message, retransmissions included.
	Fate func(*Message) Fate
	// Lose is asked for each incoming SIP message: true loses it.
	Lose func(*Message) bool
}

// maxUnclaimed bounds what is kept for Await.
const maxUnclaimed = 1000

// t2 caps the retransmission interval (RFC 3261 §17.1.2.2).
const t2 = 4 * time.Second

// Phone is one user agent on one socket.
type Phone struct {
	cfg       Config
	transport transport
	host      netip.Addr
	life      context.Context
	end       context.CancelFunc
	wg        sync.WaitGroup
	incoming  chan *Call

	mu         sync.Mutex
	changed    chan struct{}
	clients    map[string]*clientTx
	servers    map[string]*serverTx
	calls      map[string]*Call
	unclaimed  []*Message
	violations []string
}

// New binds a phone to a free port of the loopback interface.
func New(cfg Config) (*Phone, error) {
	if cfg.Transport == "" {
		cfg.Transport = "udp"
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.User == "" {
		cfg.User = "phone"
	}
	if cfg.Codecs == nil {
		cfg.Codecs = []Codec{PCMU, PCMA}
	}
	if cfg.T1 == 0 {
		cfg.T1 = 500 * time.Millisecond
	}
	host, err := netip.ParseAddr(cfg.Host)
	if err != nil {
		return nil, err
	}
	p := &Phone{
		cfg: cfg, host: host, incoming: make(chan *Call, 64), changed: make(chan struct{}),
		clients: make(map[string]*clientTx), servers: make(map[string]*serverTx), calls: make(map[string]*Call),
	}
	p.life, p.end = context.WithCancel(context.Background())
	ready := make(chan struct{})
	receive := func(data []byte, reply func([]byte) error) {
		<-ready // transport is set below
		p.receive(data, reply)
	}
	switch cfg.Transport {
	case "udp":
		p.transport, err = listenUDP(cfg.Host, receive)
	case "tcp":
		p.transport, err = listenTCP(cfg.Host, receive)
	default:
		err = fmt.Errorf("transport %q", cfg.Transport)
	}
	if err != nil {
		p.end()
		return nil, err
	}
	close(ready)
	return p, nil
}

// Close hangs nothing up: it drops the line, as a phone that loses power does.
func (p *Phone) Close() error {
	p.end()
	err := p.transport.close()
	p.mu.Lock()
	calls := make([]*Call, 0, len(p.calls))
	for _, c := range p.calls {
		calls = append(calls, c)
	}
	p.mu.Unlock()
	for _, c := range calls {
		c.Audio.close()
	}
	p.wg.Wait()
	return err
}

// Addr is the phone's host:port.
func (p *Phone) Addr() string { return p.transport.local() }

// uriHost is the phone's address as URIs have it.
func (p *Phone) uriHost() string {
	if strings.Contains(p.cfg.Host, ":") {
		return "[" + p.cfg.Host + "]"
	}
	return p.cfg.Host
}

// URI is where the phone can be called.
func (p *Phone) URI() string {
	uri := fmt.Sprintf("sip:%s@%s", p.cfg.User, p.Addr())
	if p.cfg.Transport == "tcp" {
		uri += ";transport=tcp"
	}
	return uri
}

// Accept returns the next incoming call, still unanswered.
func (p *Phone) Accept(ctx context.Context) (*Call, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no call came in: %w", ctx.Err())
	}
}

// Violations lists what the phone received that breaks a rule of SIP, SDP or RTP.
func (p *Phone) Violations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.violations...)
}

func (p *Phone) violation(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.violations) < 100 {
		p.violations = append(p.violations, fmt.Sprintf(format, args...))
	}
}

// Raw sends bytes as they are, for messages that no phone should send.
func (p *Phone) Raw(to string, data []byte) error { return p.transport.send(to, data) }

// Await returns the first message that belongs to no call or transaction of
// the phone's own, such as the answer to Raw, and satisfies match.
func (p *Phone) Await(ctx context.Context, match func(*Message) bool) (*Message, error) {
	for {
		p.mu.Lock()
		for i, m := range p.unclaimed {
			if match(m) {
				p.unclaimed = append(p.unclaimed[:i:i], p.unclaimed[i+1:]...)
				p.mu.Unlock()
				return m, nil
			}
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no such message: %w", ctx.Err())
		}
	}
}

func (p *Phone) keep(m *Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unclaimed) < maxUnclaimed {
		p.unclaimed = append(p.unclaimed, m)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// receive takes one message from the network.
func (p *Phone) receive(data []byte, reply func([]byte) error) {
	// Keep-alives are shorter than any message. What begins like RTP (RFC 7983
	// §7) is meant for the port's last owner.
	if p.life.Err() != nil || len(data) < 5 || data[0]>>6 == 2 {
		return
	}
	m, err := ParseMessage(data)
	if err != nil {
		p.violation("unreadable message: %v: %.200q", err, data)
		return
	}
	if p.cfg.Lose != nil && p.cfg.Lose(m) {
		return
	}
	if m.Status != 0 {
		p.response(m)
		return
	}
	p.request(m, reply)
}

func (p *Phone) response(m *Message) {
	_, method := m.CSeq()
	p.mu.Lock()
	tx := p.clients[m.branch()+" "+method]
	p.mu.Unlock()
	if tx == nil {
		p.keep(m)
		return
	}
	if m.Get("Call-ID") != tx.request.Get("Call-ID") || m.Get("From") != tx.request.Get("From") || m.Get("CSeq") != tx.request.Get("CSeq") {
		p.violation("%d does not copy Call-ID, From and CSeq of its %s (RFC 3261 §8.2.6.2)", m.Status, method)
	}
	if m.Status > 100 && param(m.Get("To"), "tag") == "" {
		p.violation("%d to %s without a To tag (RFC 3261 §8.2.6.2)", m.Status, method)
	}
	if len(m.Values("Via")) != len(tx.request.Values("Via")) {
		p.violation("%d to %s does not copy Via (RFC 3261 §8.2.6.2)", m.Status, method)
	}
	tx.respond(m)
}

func (p *Phone) request(m *Message, reply func([]byte) error) {
	if m.Get("Max-Forwards") == "" {
		p.violation("%s without Max-Forwards (RFC 3261 §8.1.1)", m.Method)
	}
	if len(m.branch()) < 8 || m.branch()[:7] != "z9hG4bK" {
		p.violation("%s with branch %q (RFC 3261 §8.1.1.7)", m.Method, m.branch())
	}
	key := m.branch() + " " + m.Method
	p.mu.Lock()
	tx, again := p.servers[key]
	if !again {
		tx = &serverTx{phone: p, request: m, reply: reply}
		if m.Method != "ACK" {
			p.servers[key] = tx
		}
	}
	c := p.calls[m.Get("Call-ID")+" "+param(m.Get("To"), "tag")]
	p.mu.Unlock()
	if again {
		tx.repeat()
		return
	}
	p.dispatch(tx, c)
}

func (p *Phone) dispatch(tx *serverTx, c *Call) {
	m := tx.request
	switch {
	case m.Method == "ACK":
		if c != nil {
			c.acked(m)
		}
	case m.Method == "CANCEL":
		p.cancelled(tx)
	case m.Method == "INVITE" && param(m.Get("To"), "tag") == "":
		p.invited(tx)
	case c != nil:
		c.requested(tx)
	case m.Method == "OPTIONS":
		tx.send(tx.response(200, "OK"))
	default:
		tx.send(tx.response(481, "Call/Transaction Does Not Exist"))
	}
}

func (p *Phone) cancelled(tx *serverTx) {
	p.mu.Lock()
	invite := p.servers[tx.request.branch()+" INVITE"]
	p.mu.Unlock()
	if invite == nil {
		tx.send(tx.response(481, "Call/Transaction Does Not Exist"))
		return
	}
	tx.send(tx.response(200, "OK"))
	if c := invite.call; c != nil {
		c.cancelled()
	}
}

func (p *Phone) invited(tx *serverTx) {
	c, err := p.newCall()
	if err != nil {
		tx.send(tx.response(500, "No Port"))
		return
	}
	if err := c.takeInvite(tx); err != nil {
		p.violation("INVITE: %v", err)
		tx.send(tx.response(400, "Bad Request"))
		c.release()
		return
	}
	select {
	case p.incoming <- c:
	default:
		tx.send(tx.response(486, "Busy Here"))
		c.release()
	}
}

// send passes a message through the phone's bad network.
func (p *Phone) send(m *Message, transmit func([]byte) error) error {
	fate := Deliver
	if p.cfg.Fate != nil {
		fate = p.cfg.Fate(m)
	}
	if fate == Drop {
		return nil
	}
	data := m.Bytes()
	if err := transmit(data); err != nil {
		return err
	}
	if fate == Twice {
		return transmit(data)
	}
	return nil
}

func (p *Phone) sendTo(to string, m *Message) error {
	err := p.send(m, func(data []byte) error { return p.transport.send(to, data) })
	if errors.Is(err, net.ErrClosed) && p.life.Err() != nil {
		return nil // the line was dropped meanwhile
	}
	return err
}

// via returns a Via of a new transaction.
func (p *Phone) via() string {
	return fmt.Sprintf("SIP/2.0/%s %s;rport;branch=z9hG4bK%s", upper[p.cfg.Transport], p.Addr(), random(9))
}

var upper = map[string]string{"udp": "UDP", "tcp": "TCP"}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, crypto/rand
	return hex.EncodeToString(b)
}
