package phone

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Options change one outgoing call.
type Options struct {
	// Proxy is the host:port to send to; by default where the URI points.
	Proxy string
	// LateOffer sends the INVITE without SDP: the far end offers.
	LateOffer bool
	// KeepACK leaves the ACK of the 2xx to Call.Ack.
	KeepACK bool
	// Headers are added to the INVITE.
	Headers []Header
	// Change may do anything to the INVITE before it is sent.
	Change func(*Message)
	// From replaces the From header's name-addr.
	From string
}

// Call is one dialog and its audio.
type Call struct {
	Audio *Audio

	phone    *Phone
	options  Options
	id       string
	localTag string
	session  uint64 // SDP o= session id

	mu          sync.Mutex
	changed     chan struct{}
	local       string // name-addr with our tag
	remote      string // name-addr with the far end's tag, once known
	target      string // far end's Contact
	route       []string
	hop         string // overrides the next hop of the dialog
	seq         uint32
	remoteSeq   uint32
	lastACK     uint32 // CSeq of the newest ACK for a 2xx of ours
	version     uint64
	direction   string
	invite      *clientTx // ours, or
	server      *serverTx // theirs
	provisional []*Message
	final       *Message
	ack         *Message // ready once a 2xx came
	acking      bool     // it may be sent
	ackCount    int
	cancelledBy bool
	ended       *Message // the far end's BYE
	gone        bool
	answer      []byte // last SDP of the far end
	origin      string
	streams     int // m= lines of our newest offer
}

func (p *Phone) newCall() (*Call, error) {
	audio, err := newAudio(p)
	if err != nil {
		return nil, err
	}
	return &Call{
		Audio: audio, phone: p, localTag: random(6), changed: make(chan struct{}),
		session: 1000, direction: "sendrecv",
	}, nil
}

// Dial sends an INVITE to uri and returns at once; Answered waits.
func (p *Phone) Dial(uri string, options Options) (*Call, error) {
	c, err := p.newCall()
	if err != nil {
		return nil, err
	}
	c.options = options
	c.id = random(12) + "@" + p.cfg.Host
	from := options.From
	if from == "" {
		from = fmt.Sprintf("<sip:%s@%s>", p.cfg.User, p.uriHost())
	}
	c.local, c.remote, c.target = from+";tag="+c.localTag, "<"+uri+">", uri
	p.register(c)

	m := c.newRequest("INVITE")
	m.Add("Contact", "<"+p.URI()+">")
	m.Add("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE")
	for _, h := range options.Headers {
		m.Add(h.Name, h.Value)
	}
	if !options.LateOffer {
		c.attach(m, c.offer())
	}
	if options.Change != nil {
		options.Change(m)
	}
	c.offers(m.Body)
	if options.Proxy != "" {
		c.hop = options.Proxy
	}
	hop, err := c.nextHop()
	if err == nil {
		c.hop = "" // the dialog's own route takes over
		var tx *clientTx
		tx, err = p.start(m, hop, c.invitation)
		c.mu.Lock()
		c.invite = tx
		c.mu.Unlock()
	}
	if err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

func (p *Phone) register(c *Call) {
	p.mu.Lock()
	p.calls[c.id+" "+c.localTag] = c
	p.mu.Unlock()
}

// release frees the call's ports and forgets its transactions.
func (c *Call) release() {
	c.Audio.close()
	p := c.phone
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c.id+" "+c.localTag)
	for key, tx := range p.clients {
		if tx.request.Get("Call-ID") == c.id {
			delete(p.clients, key)
		}
	}
	for key, tx := range p.servers {
		if tx.request.Get("Call-ID") == c.id {
			delete(p.servers, key)
		}
	}
}

// Release forgets a call that is over: later messages for it are strangers.
func (c *Call) Release() { c.release() }

// ID is the Call-ID.
func (c *Call) ID() string { return c.id }

// LocalTag is the phone's tag in the dialog.
func (c *Call) LocalTag() string { return c.localTag }

// RemoteTag is the far end's tag, once the dialog exists.
func (c *Call) RemoteTag() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return param(c.remote, "tag")
}

// Target is the far end's Contact URI.
func (c *Call) Target() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.target
}

// SendTo directs all further requests of the dialog to host:port, whatever
// its route says: to another instance of the same service.
func (c *Call) SendTo(hop string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hop = hop
}

func (c *Call) newRequest(method string) *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	return c.requestLocked(method, c.seq)
}

func (c *Call) requestLocked(method string, seq uint32) *Message {
	m := &Message{Method: method, URI: c.target}
	m.Add("Via", c.phone.via())
	for _, r := range c.route {
		m.Add("Route", r)
	}
	m.Add("Max-Forwards", "70")
	m.Add("From", c.local)
	m.Add("To", c.remote)
	m.Add("Call-ID", c.id)
	m.Add("CSeq", fmt.Sprintf("%d %s", seq, method))
	m.Add("User-Agent", "callmesh test phone")
	return m
}

func (c *Call) attach(m *Message, sdp []byte) {
	m.Set("Content-Type", "application/sdp")
	m.Body = sdp
}

// offers remembers what an answer must match.
func (c *Call) offers(sdp []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = bytes.Count(sdp, []byte("m="))
}

// offer describes the phone anew; the version goes up each time (RFC 3264 §8).
func (c *Call) offer() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	return describe(c.Audio.local(), c.phone.cfg.Codecs, EventPayload, c.direction, c.session, c.version)
}

func (c *Call) nextHop() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hop != "" {
		return c.hop, nil
	}
	if len(c.route) > 0 {
		return hostPort(uriOf(c.route[0]))
	}
	return hostPort(c.target)
}

func (c *Call) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait blocks until cond, called under the lock, holds.
func (c *Call) wait(ctx context.Context, what string, cond func() bool) error {
	for {
		c.mu.Lock()
		met, changed := cond(), c.changed
		c.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("call %s: no %s: %w", c.id, what, ctx.Err())
		}
	}
}

// invitation takes responses to the INVITE that opened the dialog.
func (c *Call) invitation(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.signal()
	switch {
	case m.Status < 200:
		c.provisional = append(c.provisional, m)
		if len(m.Body) > 0 {
			c.hearSDP(m, true)
		}
	case m.Status >= 300:
		if c.final == nil {
			c.final = m
		}
	case c.final == nil:
		c.final = m
		c.accepted(m)
	case c.acking && param(m.Get("To"), "tag") == param(c.remote, "tag"):
		c.sendACK() // the 2xx came again: so must the ACK (§13.2.2.4)
	}
}

func (c *Call) accepted(m *Message) {
	c.remote = m.Get("To")
	contact := m.Get("Contact")
	if contact == "" {
		c.phone.violation("2xx to INVITE without Contact (RFC 3261 §12.1.1)")
	} else {
		c.target = uriOf(contact)
	}
	c.route = m.Values("Record-Route")
	slices.Reverse(c.route)
	late := c.options.LateOffer
	c.hearSDP(m, !late)
	seq, _ := m.CSeq()
	ack := c.requestLocked("ACK", seq)
	if late {
		c.version++
		c.attach(ack, describe(c.Audio.local(), c.Audio.choose(), c.Audio.eventPayload(), c.direction, c.session, c.version))
	}
	c.ack, c.acking = ack, !c.options.KeepACK
	if c.acking {
		c.sendACK()
	}
}

// sendACK is called under the lock.
func (c *Call) sendACK() {
	hop := c.hop
	if hop == "" {
		next := c.target
		if len(c.route) > 0 {
			next = uriOf(c.route[0])
		}
		var err error
		if hop, err = hostPort(next); err != nil {
			c.phone.violation("2xx with a Contact or Record-Route that leads nowhere: %v", err)
			return
		}
	}
	c.ackCount++
	_ = c.phone.sendTo(hop, c.ack) // lost like any datagram; the 2xx comes again
}

// hearSDP takes the far end's description from m.
func (c *Call) hearSDP(m *Message, isAnswer bool) {
	if len(m.Body) == 0 {
		if m.Status >= 200 {
			c.phone.violation("%d without SDP", m.Status)
		}
		return
	}
	d, err := ParseDescription(m.Body)
	if err != nil {
		c.phone.violation("SDP: %v", err)
		return
	}
	if c.origin != "" && string(c.answer) != string(m.Body) && c.origin == d.Origin {
		c.phone.violation("SDP changed but its o= line did not (RFC 3264 §8)")
	}
	c.origin, c.answer = d.Origin, m.Body
	if isAnswer {
		c.checkAnswer(d)
	}
	c.Audio.connect(d)
}

// checkAnswer holds an answer to the offer (RFC 3264 §6).
func (c *Call) checkAnswer(d *Description) {
	if d.Streams != c.streams {
		c.phone.violation("answer with %d streams to an offer with %d (RFC 3264 §6)", d.Streams, c.streams)
	}
	for _, payload := range d.Payloads {
		known := payload == EventPayload
		for _, codec := range c.phone.cfg.Codecs {
			known = known || int(codec.Payload) == payload
		}
		if !known {
			c.phone.violation("answer with payload type %d that was not offered", payload)
		}
	}
	legal := map[string][]string{
		"sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"},
		"sendonly": {"recvonly", "inactive"},
		"recvonly": {"sendonly", "inactive"},
		"inactive": {"inactive"},
	}
	if !slices.Contains(legal[c.direction], d.Direction) {
		c.phone.violation("answer %s to an offer %s (RFC 3264 §6.1)", d.Direction, c.direction)
	}
}
