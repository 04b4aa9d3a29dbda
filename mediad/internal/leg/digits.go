package leg

import "time"

// origin of a digit.
type origin uint8

const (
	fromRTP origin = iota
	fromSignalling
)

// dedupe joins presses that the phone reports twice, by RFC 4733 and by SIP
// INFO: a digit is the echo of the oldest unpaired same digit from the other
// origin. Pairing one to one keeps fast repetitions of a key apart.
type dedupe struct {
	presses [8]press
	next    int
}

type press struct {
	key    byte
	origin origin
	at     time.Duration
}

// pairing bounds how much later the second report may come: INFO is sent when
// the key is let go.
const pairing = 2 * time.Second

// echo tells whether key was already reported by the other origin.
func (d *dedupe) echo(now time.Duration, key byte, from origin) bool {
	for i := range d.presses {
		// From the oldest on: next is where the ring will be overwritten.
		p := &d.presses[(d.next+i)%len(d.presses)]
		if p.key == key && p.origin != from && now-p.at < pairing {
			p.key = 0
			return true
		}
	}
	d.presses[d.next] = press{key: key, origin: from, at: now}
	d.next = (d.next + 1) % len(d.presses)
	return false
}

// Inject enters a digit that came by signalling.
func (l *Leg) Inject(now time.Duration, key byte) { l.press(now, key, fromSignalling) }

func (l *Leg) press(now time.Duration, key byte, from origin) {
	if l.digits.echo(now, key, from) {
		return
	}
	l.Counters.Digits++
	l.collector.Digit(now, key)
	l.event = Event{Of: &l.Identity, Kind: Digit, Key: key}
	l.Events.Emit(&l.event)
}
