// Package telephonyevent carries DTMF as RTP events (RFC 4733): a Receiver
// that makes one digit of the many packets of an event, whichever of them are
// lost, doubled or late, and a Sender that makes those packets.
package telephonyevent

import (
	"encoding/binary"
	"strings"
)

// PayloadSize of one event block (RFC 4733 §2.3).
const PayloadSize = 4

// keys in the order of their event codes, 0 to 15 (RFC 4733 §3.2).
const keys = "0123456789*#ABCD"

// maxDuration of one packet's 16 bits; longer events go on in segments.
const maxDuration = 0xFFFF

// staleness bounds how late a packet of an earlier event can be: 10 s. A
// timestamp further back means that the sender restarted its clock.
const staleness = 80_000

// IsKey tells whether b is a DTMF key.
func IsKey(b byte) bool { return strings.IndexByte(keys, b) >= 0 }

// Receiver recognises events by their RTP timestamp, which all packets of an
// event share (§2.2.1). It reports a digit at the first packet it sees of it,
// because barge-in must not wait for the key's release. Volume is ignored: an
// event is a key, however loud.
type Receiver struct {
	seen      bool
	timestamp uint32
	code      byte
	ended     bool
}

// Reset forgets the past: the next stream counts its timestamps anew.
func (r *Receiver) Reset() { *r = Receiver{} }

// Packet takes an event packet's payload and header fields. It returns the
// key and true once for each press.
func (r *Receiver) Packet(payload []byte, timestamp uint32, marker bool) (key byte, pressed bool) {
	if len(payload) < PayloadSize {
		return 0, false
	}
	code, end := payload[0], payload[1]&0x80 != 0
	if int(code) >= len(keys) {
		return 0, false
	}
	if r.seen {
		age := int32(timestamp - r.timestamp)
		switch {
		case age == 0:
			r.ended = r.ended || end
			return 0, false
		case age < 0 && age > -staleness:
			// Of an earlier event, overtaken by this one's packets.
			return 0, false
		case r.continues(code, timestamp, marker):
			r.timestamp, r.ended = timestamp, end
			return 0, false
		}
	}
	*r = Receiver{seen: true, timestamp: timestamp, code: code, ended: end}
	return keys[code], true
}

// continues tells a further segment of a long event from a new press: the
// segments of one event follow each other at the greatest duration, without
// an end and without a marker (§2.5.1.3).
func (r *Receiver) continues(code byte, timestamp uint32, marker bool) bool {
	return code == r.code && !r.ended && !marker && timestamp-r.timestamp == maxDuration
}

// block writes one event payload.
func block(dst []byte, code byte, end bool, duration uint16) {
	// -10 dBm0, what gateways commonly send; receivers must not depend on it.
	const volume = 10
	_ = dst[PayloadSize-1]
	dst[0], dst[1] = code, volume
	if end {
		dst[1] |= 0x80
	}
	binary.BigEndian.PutUint16(dst[2:], duration)
}
