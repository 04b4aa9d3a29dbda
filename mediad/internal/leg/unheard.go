package leg

import "time"

// unheard bounds what is sent to a destination that nothing has ever come
// from. SDP names any address, and with it whoever shall be flooded; that the
// far end answers from there shows that it is not a stranger's.
type unheard struct {
	heard   bool
	sent    time.Duration // of media, since something was heard last
	stopped bool
}

// hear takes note of a valid packet from the destination.
func (l *Leg) hear() { l.unheard = unheard{heard: true} }

// moved starts the bound for another destination. Who was not heard at the
// former one has only what is left of it.
func (u *unheard) moved() { u.heard = false }

// silenced tells whether the bound is reached. Only media that was sent counts
// towards it: neither a hold nor the time before the first prompt.
func (l *Leg) silenced() bool {
	u := &l.unheard
	if l.Unlatched <= 0 || u.heard || u.sent < l.Unlatched {
		return false
	}
	if !u.stopped {
		u.stopped = true
		l.Counters.Silenced++
	}
	return true
}
