package phone

import (
	"context"
	"fmt"
)

// Answered waits until the far end accepts the call.
func (c *Call) Answered(ctx context.Context) error {
	status, err := c.Final(ctx)
	if err == nil && status >= 300 {
		return fmt.Errorf("call refused with %d", status)
	}
	return err
}

// Final waits for the final response to the INVITE and returns its status.
func (c *Call) Final(ctx context.Context) (int, error) {
	m, err := c.FinalMessage(ctx)
	if err != nil {
		return 0, err
	}
	return m.Status, nil
}

// FinalMessage waits for the final response to the INVITE.
func (c *Call) FinalMessage(ctx context.Context) (*Message, error) {
	if err := c.wait(ctx, "final response", func() bool { return c.final != nil }); err != nil {
		return nil, err
	}
	return c.final, nil
}

// Provisional waits until a provisional response of the status has come.
func (c *Call) Provisional(ctx context.Context, status int) error {
	return c.wait(ctx, fmt.Sprintf("%d", status), func() bool {
		for _, m := range c.provisional {
			if m.Status == status {
				return true
			}
		}
		return false
	})
}

// ACK acknowledges the 2xx of a call dialled with KeepACK.
func (c *Call) ACK() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ack != nil {
		c.acking = true
		c.sendACK()
	}
}

// ACKs counts the ACKs sent, repeated ones included.
func (c *Call) ACKs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ackCount
}

// Cancel gives the call up before it is answered and returns the INVITE's
// final status: 487, or 200 when the answer crossed the CANCEL.
func (c *Call) Cancel(ctx context.Context) (int, error) {
	// A CANCEL may not overtake the first provisional response (§9.1).
	if err := c.wait(ctx, "response", func() bool { return len(c.provisional) > 0 || c.final != nil }); err != nil {
		return 0, err
	}
	c.mu.Lock()
	invite := c.invite
	c.mu.Unlock()
	m := &Message{Method: "CANCEL", URI: invite.request.URI}
	m.Add("Via", invite.request.Get("Via"))
	for _, name := range []string{"Route", "Max-Forwards", "From", "To", "Call-ID"} {
		if v := invite.request.Get(name); v != "" {
			m.Add(name, v)
		}
	}
	seq, _ := invite.request.CSeq()
	m.Add("CSeq", fmt.Sprintf("%d CANCEL", seq))
	tx, err := c.phone.start(m, invite.to, nil)
	if err != nil {
		return 0, err
	}
	if _, err := tx.wait(ctx); err != nil {
		return 0, err
	}
	return c.Final(ctx)
}

// Request sends a request within the dialog and returns the final status.
func (c *Call) Request(ctx context.Context, method, contentType string, body []byte) (*Message, error) {
	m := c.newRequest(method)
	if contentType != "" {
		m.Set("Content-Type", contentType)
		m.Body = body
	}
	return c.transact(ctx, m, nil)
}

func (c *Call) transact(ctx context.Context, m *Message, onResponse func(*Message)) (*Message, error) {
	hop, err := c.nextHop()
	if err != nil {
		return nil, err
	}
	tx, err := c.phone.start(m, hop, onResponse)
	if err != nil {
		return nil, err
	}
	return tx.wait(ctx)
}

// Hangup sends BYE and returns when the far end has answered it.
func (c *Call) Hangup(ctx context.Context) error {
	m, err := c.Request(ctx, "BYE", "", nil)
	c.mu.Lock()
	c.gone = true
	c.signal()
	c.mu.Unlock()
	c.Audio.close()
	if err == nil && m.Status != 200 {
		return fmt.Errorf("BYE answered with %d", m.Status)
	}
	return err
}

// Ended waits for the far end's BYE and returns it.
func (c *Call) Ended(ctx context.Context) (*Message, error) {
	if err := c.wait(ctx, "BYE", func() bool { return c.ended != nil }); err != nil {
		return nil, err
	}
	return c.ended, nil
}

// Over tells whether either side has hung up.
func (c *Call) Over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone || c.ended != nil
}

// Hold puts the far end on hold by a re-INVITE (RFC 3264 §8.4).
func (c *Call) Hold(ctx context.Context) error { return c.redirect(ctx, "sendonly") }

// Resume takes the far end off hold.
func (c *Call) Resume(ctx context.Context) error { return c.redirect(ctx, "sendrecv") }

func (c *Call) redirect(ctx context.Context, direction string) error {
	c.mu.Lock()
	before := c.direction
	c.direction = direction
	c.mu.Unlock()
	status, err := c.Reinvite(ctx, c.offer())
	if err != nil {
		return err
	}
	if status != 200 {
		c.mu.Lock()
		c.direction = before
		c.mu.Unlock()
		return fmt.Errorf("re-INVITE answered with %d", status)
	}
	return nil
}

// Refresh repeats the session's description in a re-INVITE, changing nothing.
func (c *Call) Refresh(ctx context.Context) (int, error) {
	c.mu.Lock()
	sdp := describe(c.Audio.local(), c.phone.cfg.Codecs, EventPayload, c.direction, c.session, c.version)
	c.mu.Unlock()
	return c.Reinvite(ctx, sdp)
}

// Reinvite sends a re-INVITE with the description, or without one if nil, and
// acknowledges its 2xx.
func (c *Call) Reinvite(ctx context.Context, sdp []byte) (int, error) {
	m := c.newRequest("INVITE")
	m.Add("Contact", "<"+c.phone.URI()+">")
	if sdp != nil {
		c.attach(m, sdp)
		c.offers(sdp)
	}
	var ack *Message
	final, err := c.transact(ctx, m, func(r *Message) {
		if r.Status < 200 || r.Status >= 300 {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if ack == nil {
			ack = c.reaccepted(r, sdp == nil)
		}
		c.ack = ack
		c.sendACK()
	})
	if err != nil {
		return 0, err
	}
	return final.Status, nil
}

// reaccepted takes a 2xx to a re-INVITE and returns its ACK.
func (c *Call) reaccepted(r *Message, late bool) *Message {
	if contact := r.Get("Contact"); contact != "" {
		c.target = uriOf(contact) // a target refresh, §12.2.1.2
	} else {
		c.phone.violation("2xx to re-INVITE without Contact (RFC 3261 §12.2.2)")
	}
	c.hearSDP(r, !late)
	seq, _ := r.CSeq()
	ack := c.requestLocked("ACK", seq)
	if late {
		c.version++
		c.attach(ack, describe(c.Audio.local(), c.Audio.choose(), c.Audio.eventPayload(), c.direction, c.session, c.version))
	}
	return ack
}

// Info sends a digit by SIP INFO, in the form that most phones use.
func (c *Call) Info(ctx context.Context, digit rune) (int, error) {
	m, err := c.Request(ctx, "INFO", "application/dtmf-relay", fmt.Appendf(nil, "Signal=%c\r\nDuration=100\r\n", digit))
	if err != nil {
		return 0, err
	}
	return m.Status, nil
}
