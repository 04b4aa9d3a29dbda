// Package rtcp builds and reads the RTCP of a leg (RFC 3550 §6): sender and
// receiver reports, SDES with a CNAME, BYE. Reception keeps the figures that
// reports are made of, Quality turns them into a MOS.
package rtcp

import (
	"encoding/binary"
	"errors"
	"time"
)

// Packet types, RFC 3550 §12.1.
const (
	typeSenderReport   = 200
	typeReceiverReport = 201
	typeSDES           = 202
	typeBye            = 203
)

const (
	version       = 2
	headerSize    = 4
	senderSize    = 20
	reportSize    = 24
	sdesCNAME     = 1
	maxCNAME      = 255
	maxLostSigned = 1<<23 - 1
)

// ErrMalformed covers everything RFC 3550 A.2 tells to check; it is counted, not shown.
var ErrMalformed = errors.New("rtcp: malformed compound packet")

// Report is one report block: what one side received of the other's stream.
type Report struct {
	SSRC             uint32
	FractionLost     uint8
	CumulativeLost   int32
	HighestSequence  uint32
	Jitter           uint32
	LastSR           uint32
	DelaySinceLastSR uint32
}

// Sender is the sender information of an SR.
type Sender struct {
	NTP       uint64
	Timestamp uint32
	Packets   uint32
	Octets    uint32
}

// Compound is what a leg sends, and what it needs of what it gets. On reading,
// Report is the block about our own stream.
type Compound struct {
	SSRC      uint32
	HasSender bool
	Sender    Sender
	HasReport bool
	Report    Report
	CNAME     string
	Bye       bool
}

// Append adds the compound packet to dst: SR or RR first, then SDES, then BYE
// if the leg ends (§6.1).
func (c *Compound) Append(dst []byte) []byte {
	kind, reports := byte(typeReceiverReport), byte(0)
	words := 1
	if c.HasSender {
		kind, words = typeSenderReport, words+senderSize/4
	}
	if c.HasReport {
		reports, words = 1, words+reportSize/4
	}
	dst = appendHeader(dst, reports, kind, words)
	dst = binary.BigEndian.AppendUint32(dst, c.SSRC)
	if c.HasSender {
		dst = binary.BigEndian.AppendUint64(dst, c.Sender.NTP)
		dst = binary.BigEndian.AppendUint32(dst, c.Sender.Timestamp)
		dst = binary.BigEndian.AppendUint32(dst, c.Sender.Packets)
		dst = binary.BigEndian.AppendUint32(dst, c.Sender.Octets)
	}
	if c.HasReport {
		dst = c.Report.append(dst)
	}
	dst = c.appendSDES(dst)
	if c.Bye {
		dst = appendHeader(dst, 1, typeBye, 1)
		dst = binary.BigEndian.AppendUint32(dst, c.SSRC)
	}
	return dst
}

func appendHeader(dst []byte, count, kind byte, words int) []byte {
	return binary.BigEndian.AppendUint16(append(dst, version<<6|count, kind), uint16(words))
}

func (r *Report) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, r.SSRC)
	lost := uint32(min(max(r.CumulativeLost, -maxLostSigned-1), maxLostSigned)) & 0xFFFFFF
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.FractionLost)<<24|lost)
	dst = binary.BigEndian.AppendUint32(dst, r.HighestSequence)
	dst = binary.BigEndian.AppendUint32(dst, r.Jitter)
	dst = binary.BigEndian.AppendUint32(dst, r.LastSR)
	return binary.BigEndian.AppendUint32(dst, r.DelaySinceLastSR)
}

func (c *Compound) appendSDES(dst []byte) []byte {
	name := c.CNAME[:min(len(c.CNAME), maxCNAME)]
	// The item list ends with at least one zero octet, padded to a word (§6.5).
	items := (2 + len(name) + 1 + 3) &^ 3
	dst = appendHeader(dst, 1, typeSDES, 1+items/4)
	dst = binary.BigEndian.AppendUint32(dst, c.SSRC)
	end := len(dst) + items
	dst = append(dst, sdesCNAME, byte(len(name)))
	dst = append(dst, name...)
	for len(dst) < end {
		dst = append(dst, 0)
	}
	return dst
}

// Parse reads a compound packet. Of the report blocks it keeps the one about
// own. Unknown packet types are passed over.
func Parse(data []byte, own uint32, c *Compound) error {
	*c = Compound{}
	for first := true; len(data) > 0; first = false {
		if len(data) < headerSize || data[0]>>6 != version {
			return ErrMalformed
		}
		size := headerSize + 4*int(binary.BigEndian.Uint16(data[2:]))
		if size > len(data) {
			return ErrMalformed
		}
		kind, count, body := data[1], int(data[0]&0x1F), data[headerSize:size]
		// Every compound starts with a report (A.2); only the last may be padded.
		if first && kind != typeSenderReport && kind != typeReceiverReport {
			return ErrMalformed
		}
		if data[0]&0x20 != 0 {
			if first && size < len(data) {
				return ErrMalformed
			}
			if len(body) == 0 || int(body[len(body)-1]) > len(body) {
				return ErrMalformed
			}
			body = body[:len(body)-int(body[len(body)-1])]
		}
		if err := c.read(kind, count, body, own); err != nil {
			return err
		}
		data = data[size:]
	}
	if c.SSRC == 0 && !c.HasSender && !c.HasReport && !c.Bye {
		// An empty datagram, or reports from SSRC 0: nothing to learn.
		return ErrMalformed
	}
	return nil
}

func (c *Compound) read(kind byte, count int, body []byte, own uint32) error {
	switch kind {
	case typeSenderReport, typeReceiverReport:
		if len(body) < 4 {
			return ErrMalformed
		}
		c.SSRC = binary.BigEndian.Uint32(body)
		body = body[4:]
		if kind == typeSenderReport {
			if len(body) < senderSize {
				return ErrMalformed
			}
			c.HasSender = true
			c.Sender = Sender{
				NTP:       binary.BigEndian.Uint64(body),
				Timestamp: binary.BigEndian.Uint32(body[8:]),
				Packets:   binary.BigEndian.Uint32(body[12:]),
				Octets:    binary.BigEndian.Uint32(body[16:]),
			}
			body = body[senderSize:]
		}
		if len(body) < count*reportSize {
			return ErrMalformed
		}
		for range count {
			if binary.BigEndian.Uint32(body) == own {
				c.HasReport = true
				c.Report = readReport(body)
			}
			body = body[reportSize:]
		}
	case typeBye:
		if len(body) < 4*count {
			return ErrMalformed
		}
		c.Bye = true
	}
	return nil
}

func readReport(b []byte) Report {
	lost := binary.BigEndian.Uint32(b[4:])
	return Report{
		SSRC:             binary.BigEndian.Uint32(b),
		FractionLost:     uint8(lost >> 24),
		CumulativeLost:   int32(lost<<8) >> 8, // 24 bits, signed
		HighestSequence:  binary.BigEndian.Uint32(b[8:]),
		Jitter:           binary.BigEndian.Uint32(b[12:]),
		LastSR:           binary.BigEndian.Uint32(b[16:]),
		DelaySinceLastSR: binary.BigEndian.Uint32(b[20:]),
	}
}

// NTP is t as a 64-bit NTP timestamp (RFC 3550 §4): seconds since 1900 and a fraction.
func NTP(t time.Time) uint64 {
	const since1900 = 2208988800
	seconds := uint64(t.Unix() + since1900)
	return seconds<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// Middle is the 32 bits of an NTP timestamp that LSR carries: units of 1/65536 s.
func Middle(ntp uint64) uint32 { return uint32(ntp >> 16) }

// RoundTrip is A − LSR − DLSR of §6.4.1, where now is the arrival of r. It is
// false when the far end has not yet heard a sender report, or lies.
func (r *Report) RoundTrip(now uint64) (time.Duration, bool) {
	if r.LastSR == 0 {
		return 0, false
	}
	units := int32(Middle(now) - r.LastSR - r.DelaySinceLastSR)
	if units < 0 {
		return 0, false
	}
	return time.Duration(units) * time.Second / 65536, true
}
