package phone

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// clientTx is one request of ours on its way (RFC 3261 §17.1).
type clientTx struct {
	phone      *Phone
	request    *Message
	to         string
	onResponse func(*Message)

	mu          sync.Mutex
	provisional bool
	final       *Message
	done        chan struct{} // closed by the final response
	quiet       chan struct{} // closed when retransmitting must stop
}

// start sends the request and keeps sending it as the transport demands.
func (p *Phone) start(request *Message, to string, onResponse func(*Message)) (*clientTx, error) {
	_, method := request.CSeq()
	tx := &clientTx{
		phone: p, request: request, to: to, onResponse: onResponse,
		done: make(chan struct{}), quiet: make(chan struct{}),
	}
	p.mu.Lock()
	p.clients[request.branch()+" "+method] = tx
	p.mu.Unlock()
	if err := p.sendTo(to, request); err != nil {
		return nil, err
	}
	if p.cfg.Transport == "udp" {
		p.wg.Go(func() { tx.retransmit(method == "INVITE") })
	}
	return tx, nil
}

// retransmit is timers A and E: doubling from T1, E capped at T2.
func (tx *clientTx) retransmit(invite bool) {
	wait := tx.phone.cfg.T1
	timer := time.NewTimer(wait)
	defer timer.Stop()
	end := time.NewTimer(64 * wait)
	defer end.Stop()
	for {
		select {
		case <-timer.C:
			if err := tx.phone.sendTo(tx.to, tx.request); err != nil {
				return
			}
			wait *= 2
			if !invite {
				wait = min(wait, t2)
			}
			timer.Reset(wait)
		case <-tx.quiet:
			return
		case <-end.C:
			return
		case <-tx.phone.life.Done():
			return
		}
	}
}

func (tx *clientTx) respond(m *Message) {
	_, method := m.CSeq()
	tx.mu.Lock()
	first := tx.final == nil
	if (m.Status >= 200 || method == "INVITE") && !tx.provisional && first {
		close(tx.quiet)
		tx.provisional = true
	}
	if m.Status >= 200 && first {
		tx.final = m
	}
	tx.mu.Unlock()
	if method == "INVITE" && m.Status >= 300 {
		tx.ackFailure(m)
	}
	if tx.onResponse != nil {
		tx.onResponse(m)
	}
	if m.Status >= 200 && first {
		close(tx.done)
	}
}

// ackFailure acknowledges a non-2xx within the transaction (§17.1.1.3).
func (tx *clientTx) ackFailure(m *Message) {
	ack := &Message{Method: "ACK", URI: tx.request.URI}
	ack.Add("Via", tx.request.Values("Via")[0])
	for _, route := range tx.request.Values("Route") {
		ack.Add("Route", route)
	}
	ack.Add("Max-Forwards", "70")
	ack.Add("From", tx.request.Get("From"))
	ack.Add("To", m.Get("To"))
	ack.Add("Call-ID", tx.request.Get("Call-ID"))
	seq, _ := tx.request.CSeq()
	ack.Add("CSeq", fmt.Sprintf("%d ACK", seq))
	_ = tx.phone.sendTo(tx.to, ack) // lost like any datagram; the response comes again
}

// wait returns the final response.
func (tx *clientTx) wait(ctx context.Context) (*Message, error) {
	select {
	case <-tx.done:
		return tx.final, nil
	case <-ctx.Done():
		_, method := tx.request.CSeq()
		return nil, fmt.Errorf("no final response to %s: %w", method, ctx.Err())
	}
}

// serverTx is one request of the peer (RFC 3261 §17.2).
type serverTx struct {
	phone   *Phone
	request *Message
	reply   func([]byte) error
	call    *Call

	mu   sync.Mutex
	last *Message
}

// response returns a response with what it must copy of the request.
func (tx *serverTx) response(status int, reason string) *Message {
	m := &Message{Status: status, Reason: reason}
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, h := range tx.request.Headers {
			if h.Name == name {
				m.Add(name, h.Value)
			}
		}
	}
	if to := m.Get("To"); param(to, "tag") == "" && status > 100 {
		tag := random(6)
		if tx.call != nil {
			tag = tx.call.localTag
		}
		m.Set("To", to+";tag="+tag)
	}
	return m
}

func (tx *serverTx) send(m *Message) {
	tx.mu.Lock()
	tx.last = m
	tx.mu.Unlock()
	_ = tx.phone.send(m, tx.reply) // a lost response is the peer's to ask for again
}

// final tells whether the request has had its final response.
func (tx *serverTx) final() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.last != nil && tx.last.Status >= 200
}

// repeat answers a retransmitted request as before.
func (tx *serverTx) repeat() {
	tx.mu.Lock()
	last := tx.last
	tx.mu.Unlock()
	if last != nil {
		_ = tx.phone.send(last, tx.reply)
	}
}
