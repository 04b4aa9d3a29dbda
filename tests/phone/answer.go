package phone

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// takeInvite makes c the called side of the INVITE.
func (c *Call) takeInvite(tx *serverTx) error {
	m := tx.request
	c.id = m.Get("Call-ID")
	c.local = m.Get("To") + ";tag=" + c.localTag
	c.remote = m.Get("From")
	c.target = uriOf(m.Get("Contact"))
	c.route = m.Values("Record-Route")
	c.remoteSeq, _ = m.CSeq()
	c.server = tx
	tx.call = c
	if m.Get("Contact") == "" {
		return errors.New("no Contact (RFC 3261 §8.1.1.8)")
	}
	if len(m.Body) > 0 {
		d, err := ParseDescription(m.Body)
		if err != nil {
			return err
		}
		c.origin, c.answer = d.Origin, m.Body
		c.Audio.offered(d)
	}
	c.phone.register(c)
	tx.send(tx.response(100, "Trying"))
	return nil
}

// Invite is the INVITE that came in.
func (c *Call) Invite() *Message { return c.server.request }

// Ring sends 180.
func (c *Call) Ring() { c.server.send(c.withContact(c.server.response(180, "Ringing"))) }

// Reject refuses the call.
func (c *Call) Reject(status int, reason string) {
	c.server.send(c.server.response(status, reason))
	c.mu.Lock()
	c.gone = true
	c.signal()
	c.mu.Unlock()
	c.Audio.close()
}

func (c *Call) withContact(m *Message) *Message {
	m.Add("Contact", "<"+c.phone.URI()+">")
	return m
}

// Answer accepts the call and waits for the ACK.
func (c *Call) Answer(ctx context.Context) error {
	m := c.withContact(c.server.response(200, "OK"))
	c.describeInto(m)
	return c.acceptUntilACK(ctx, c.server, m)
}

// describeInto adds the phone's answer, or its offer if the INVITE had none.
func (c *Call) describeInto(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	codecs, event := c.phone.cfg.Codecs, EventPayload
	if c.answer != nil {
		codecs, event = c.Audio.choose(), c.Audio.eventPayload()
	}
	c.version++
	c.streams = 1
	c.attach(m, describe(c.Audio.local(), codecs, event, c.Audio.reply(), c.session, c.version))
	if c.answer != nil {
		c.Audio.begin()
	}
}

// acceptUntilACK repeats a 2xx until its ACK comes (§13.3.1.4).
func (c *Call) acceptUntilACK(ctx context.Context, tx *serverTx, m *Message) error {
	seq, _ := tx.request.CSeq()
	wait := c.phone.cfg.T1
	timer := time.NewTimer(wait)
	defer timer.Stop()
	tx.send(m)
	for {
		c.mu.Lock()
		acked, changed := c.lastACK >= seq, c.changed
		c.mu.Unlock()
		if acked {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			tx.repeat()
			wait = min(2*wait, t2)
			timer.Reset(wait)
		case <-ctx.Done():
			return fmt.Errorf("no ACK: %w", ctx.Err())
		case <-c.phone.life.Done():
			return c.phone.life.Err()
		}
	}
}

// acked takes the ACK of a 2xx of ours; it may hold the answer to our offer.
func (c *Call) acked(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastACK, _ = m.CSeq()
	if len(m.Body) > 0 && !c.Audio.running() {
		c.hearSDP(m, true)
	}
	c.signal()
}

// cancelled ends an unanswered incoming call.
func (c *Call) cancelled() {
	if c.server.final() {
		return // too late: the answer crossed the CANCEL (§9.2)
	}
	c.mu.Lock()
	c.cancelledBy, c.gone = true, true
	c.signal()
	c.mu.Unlock()
	c.server.send(c.server.response(487, "Request Terminated"))
	c.Audio.close()
}

// Cancelled waits until the caller gives the call up.
func (c *Call) Cancelled(ctx context.Context) error {
	return c.wait(ctx, "CANCEL", func() bool { return c.cancelledBy })
}

// requested answers a request of the far end within the dialog.
func (c *Call) requested(tx *serverTx) {
	m := tx.request
	tx.call = c
	seq, _ := m.CSeq()
	c.mu.Lock()
	if seq <= c.remoteSeq && c.remoteSeq != 0 {
		c.phone.violation("%s with CSeq %d after %d (RFC 3261 §12.2.2)", m.Method, seq, c.remoteSeq)
	}
	c.remoteSeq = max(seq, c.remoteSeq)
	if param(m.Get("From"), "tag") != param(c.remote, "tag") {
		c.phone.violation("%s with another From tag than the dialog's", m.Method)
	}
	c.mu.Unlock()

	switch m.Method {
	case "BYE":
		c.mu.Lock()
		c.ended = m
		c.signal()
		c.mu.Unlock()
		c.Audio.close()
		tx.send(tx.response(200, "OK"))
	case "INVITE":
		c.reinvited(tx)
	default:
		tx.send(tx.response(200, "OK"))
	}
}

// reinvited follows a re-INVITE of the far end.
func (c *Call) reinvited(tx *serverTx) {
	c.mu.Lock()
	c.target = uriOf(tx.request.Get("Contact"))
	c.answer = nil
	if len(tx.request.Body) > 0 {
		c.hearSDP(tx.request, false)
	}
	c.signal()
	c.mu.Unlock()
	m := c.withContact(tx.response(200, "OK"))
	c.describeInto(m)
	c.phone.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.phone.life, 64*c.phone.cfg.T1)
		defer cancel()
		if err := c.acceptUntilACK(ctx, tx, m); err != nil && c.phone.life.Err() == nil {
			c.phone.violation("re-INVITE: %v", err)
		}
	})
}
