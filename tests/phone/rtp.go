package phone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// rtpPacket is an RTP packet (RFC 3550 §5.1) without CSRCs or extensions.
type rtpPacket struct {
	marker    bool
	payload   uint8
	sequence  uint16
	timestamp uint32
	ssrc      uint32
	data      []byte
}

func (r rtpPacket) bytes() []byte {
	b := make([]byte, 12, 12+len(r.data))
	b[0] = 0x80
	b[1] = r.payload
	if r.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], r.sequence)
	binary.BigEndian.PutUint32(b[4:], r.timestamp)
	binary.BigEndian.PutUint32(b[8:], r.ssrc)
	return append(b, r.data...)
}

func parseRTP(b []byte) (rtpPacket, error) {
	var r rtpPacket
	if len(b) < 12 {
		return r, errors.New("short packet")
	}
	if b[0]>>6 != 2 {
		return r, fmt.Errorf("version %d", b[0]>>6)
	}
	start := 12 + 4*int(b[0]&0x0F)
	if b[0]&0x10 != 0 {
		if len(b) < start+4 {
			return r, errors.New("short extension")
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		end -= int(b[len(b)-1])
	}
	if start > end {
		return r, errors.New("short packet")
	}
	r = rtpPacket{
		marker: b[1]&0x80 != 0, payload: b[1] & 0x7F,
		sequence: binary.BigEndian.Uint16(b[2:]), timestamp: binary.BigEndian.Uint32(b[4:]),
		ssrc: binary.BigEndian.Uint32(b[8:]), data: b[start:end],
	}
	return r, nil
}

// events maps digits to the codes of RFC 4733 §3.2.
const events = "0123456789*#ABCD"

// Impairment is what the phone's network does to outgoing RTP, each field a
// probability. The same seed gives the same bad luck.
type Impairment struct {
	Loss, Duplicate, Reorder float64
	Seed                     uint64
}

// impaired passes packets through an Impairment.
type impaired struct {
	Impairment
	random *rand.Rand
	held   []byte
}

func newImpaired(i Impairment) *impaired {
	return &impaired{Impairment: i, random: rand.New(rand.NewPCG(i.Seed, 4733))}
}

// pass returns the packets to put on the wire in place of one.
func (i *impaired) pass(packet []byte) [][]byte {
	if i.random.Float64() < i.Loss {
		return i.release(nil)
	}
	out := [][]byte{packet}
	if i.random.Float64() < i.Duplicate {
		out = append(out, packet)
	}
	if i.held == nil && i.random.Float64() < i.Reorder {
		i.held = packet
		return nil
	}
	return i.release(out)
}

// release sends a held packet after the one that overtook it.
func (i *impaired) release(out [][]byte) [][]byte {
	if i.held != nil {
		out = append(out, i.held)
		i.held = nil
	}
	return out
}

// reports counts RTCP from the far end.
type reports struct {
	SenderReports, ReceiverReports int
	// FractionLost is the share of our packets that the far end missed, by its
	// newest report.
	FractionLost float64
	// CumulativeLost is how many of our packets it missed in all.
	CumulativeLost int
	Bye            bool
	lastSR         uint32
	lastSRAt       time.Time
}

// take reads a compound packet (RFC 3550 §6).
func (r *reports) take(b []byte, ssrc uint32, now time.Time) error {
	if len(b) < 8 || (b[1] != 200 && b[1] != 201) {
		return errors.New("compound packet does not begin with SR or RR (§6.1)")
	}
	for len(b) >= 4 {
		size := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
		if b[0]>>6 != 2 || size > len(b) {
			return errors.New("malformed packet")
		}
		blocks := b[8:size]
		switch b[1] {
		case 200:
			r.SenderReports++
			if size < 28 {
				return errors.New("short SR")
			}
			r.lastSR, r.lastSRAt = binary.BigEndian.Uint32(b[10:]), now
			blocks = b[28:size]
		case 201:
			r.ReceiverReports++
		case 203:
			r.Bye = true
		}
		if b[1] <= 201 {
			r.blocks(blocks, int(b[0]&0x1F), ssrc)
		}
		b = b[size:]
	}
	return nil
}

func (r *reports) blocks(b []byte, count int, ssrc uint32) {
	for ; count > 0 && len(b) >= 24; b, count = b[24:], count-1 {
		if binary.BigEndian.Uint32(b) == ssrc {
			r.FractionLost = float64(b[4]) / 256
			r.CumulativeLost = int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		}
	}
}
