// Package rtp reads and writes RTP headers in place (RFC 3550 §5.1). It
// allocates nothing: a Packet refers to the bytes it was read from.
package rtp

import (
	"encoding/binary"
	"errors"
)

// HeaderSize of the packets we send: no CSRC, no extension.
const HeaderSize = 12

const version = 2

// Errors of Parse. They carry no detail because they are counted, not shown.
var (
	ErrShort   = errors.New("rtp: packet too short")
	ErrVersion = errors.New("rtp: version is not 2")
	ErrPadding = errors.New("rtp: padding exceeds the payload")
)

// Packet is a parsed header and the payload without padding.
type Packet struct {
	Marker      bool
	PayloadType uint8
	Sequence    uint16
	Timestamp   uint32
	SSRC        uint32
	Payload     []byte
}

// Parse reads data into p. p.Payload shares data's memory.
func Parse(data []byte, p *Packet) error {
	if len(data) < HeaderSize {
		return ErrShort
	}
	if data[0]>>6 != version {
		return ErrVersion
	}
	start := HeaderSize + 4*int(data[0]&0x0F)
	if data[0]&0x10 != 0 {
		if len(data) < start+4 {
			return ErrShort
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(data[start+2:]))
	}
	if len(data) < start {
		return ErrShort
	}
	end := len(data)
	if data[0]&0x20 != 0 {
		padding := int(data[end-1])
		if padding == 0 || padding > end-start {
			return ErrPadding
		}
		end -= padding
	}
	p.Marker = data[1]&0x80 != 0
	p.PayloadType = data[1] & 0x7F
	p.Sequence = binary.BigEndian.Uint16(data[2:])
	p.Timestamp = binary.BigEndian.Uint32(data[4:])
	p.SSRC = binary.BigEndian.Uint32(data[8:])
	p.Payload = data[start:end]
	return nil
}

// PutHeader writes p's header to the first HeaderSize bytes of dst; the
// payload is the caller's to place behind it.
func PutHeader(dst []byte, p *Packet) {
	_ = dst[HeaderSize-1]
	dst[0] = version << 6
	dst[1] = p.PayloadType & 0x7F
	if p.Marker {
		dst[1] |= 0x80
	}
	binary.BigEndian.PutUint16(dst[2:], p.Sequence)
	binary.BigEndian.PutUint32(dst[4:], p.Timestamp)
	binary.BigEndian.PutUint32(dst[8:], p.SSRC)
}

// IsRTCP tells RTCP from RTP on one port by the second byte (RFC 5761 §4).
func IsRTCP(data []byte) bool {
	return len(data) >= 2 && data[1] >= 192 && data[1] <= 223
}
