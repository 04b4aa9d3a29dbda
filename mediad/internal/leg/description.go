package leg

import (
	"errors"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/codec"
)

// Errors of commands.
var (
	ErrNoEvents   = errors.New("telephone-event is not negotiated")
	ErrKeyQueue   = errors.New("too many digits, or one that is no key")
	ErrStaleGrant = errors.New("a newer grant commands the leg")
)

// Direction is what we do with the stream.
type Direction uint8

// The directions of RFC 3264 §5.1, from our side.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// Sends tells whether we send media.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives tells whether we take media.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Format is a codec under the payload type it was negotiated with.
type Format struct {
	Codec       *codec.Codec
	PayloadType uint8
}

// Description is the negotiated audio.
type Description struct {
	// Remote is the SDP address; invalid before the far end is known.
	Remote netip.AddrPort
	// RemoteRTCP is where RTCP goes, the RTP address when multiplexed.
	RemoteRTCP netip.AddrPort
	Mux        bool
	// Codecs: the first is sent, all are received. Never empty.
	Codecs []Format
	// EventPayloadType of telephone-event, 0 when not negotiated.
	EventPayloadType uint8
	Direction        Direction
}

// comfortNoise (RFC 3389) is valid RTP for us, though nothing is made of it.
const comfortNoise = 13

func (d *Description) format(pt uint8) (f Format, ok bool) {
	for _, f := range d.Codecs {
		if f.PayloadType == pt {
			return f, true
		}
	}
	return Format{}, false
}

// knows tells whether pt may arrive.
func (d *Description) knows(pt uint8) bool {
	if pt == comfortNoise || pt == d.EventPayloadType && pt != 0 {
		return true
	}
	_, ok := d.format(pt)
	return ok
}

// Describe applies a new description. SSRC, sequence and timestamps go on; the
// source is locked anew only if the far end's address changed.
func (l *Leg) Describe(now time.Duration, d Description) {
	if d.Remote != l.description.Remote {
		l.source.move(now, l.description.Remote, d.Remote)
		if !l.source.locked {
			l.unheard.moved()
		}
		l.control.address = netip.AddrPort{}
	}
	if d.Direction.Receives() && !l.description.Direction.Receives() {
		// Off hold: the silence of the hold does not count.
		l.source.silentSince, l.source.told = now, false
	}
	l.description = d
}

// Missing are the clips held that the codec of d cannot play yet: encode them
// off the tick and describe again.
func (l *Leg) Missing(cd *codec.Codec) (clips []Encoder) {
	for _, c := range l.player.Missing(cd, nil) {
		clips = append(clips, c)
	}
	return clips
}

// Encoder is a clip that can be encoded off the tick.
type Encoder interface {
	Encode(*codec.Codec)
}

// Codec that the leg sends.
func (l *Leg) Codec() *codec.Codec { return l.description.Codecs[0].Codec }
