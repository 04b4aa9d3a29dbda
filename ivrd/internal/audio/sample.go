package audio

import (
	"encoding/binary"
	"math"
)

// encoding is how one sample lies in a file: its bytes and its value, -1 to 1.
type encoding struct {
	bytes int
	value func(b []byte) float32
}

var (
	unsigned8 = encoding{1, func(b []byte) float32 { return (float32(b[0]) - 128) / 128 }}
	signed8   = encoding{1, func(b []byte) float32 { return float32(int8(b[0])) / 128 }}
	mulaw     = encoding{1, func(b []byte) float32 { return float32(expandMuLaw(b[0])) / 32768 }}
	alaw      = encoding{1, func(b []byte) float32 { return float32(expandALaw(b[0])) / 32768 }}
)

// linear returns signed samples of 16, 24 or 32 bits.
func linear(bits int, order binary.ByteOrder) encoding {
	little := order == binary.ByteOrder(binary.LittleEndian)
	switch bits {
	case 16:
		return encoding{2, func(b []byte) float32 { return float32(int16(order.Uint16(b))) / (1 << 15) }}
	case 24:
		return encoding{3, func(b []byte) float32 {
			if little {
				return float32(int32(uint32(b[2])<<24|uint32(b[1])<<16|uint32(b[0])<<8)) / (1 << 31)
			}
			return float32(int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8)) / (1 << 31)
		}}
	default:
		return encoding{4, func(b []byte) float32 { return float32(int32(order.Uint32(b))) / (1 << 31) }}
	}
}

func float(order binary.ByteOrder) encoding {
	return encoding{4, func(b []byte) float32 { return clip(math.Float32frombits(order.Uint32(b))) }}
}

// clip bounds what a broken file may hold; what is no number becomes silence.
func clip(f float32) float32 {
	if math.IsNaN(float64(f)) {
		return 0
	}
	return max(-1, min(1, f))
}

// raw decodes samples without a header.
func raw(data []byte, e encoding, rate, channels int) (pcm, error) {
	if err := check(rate, channels); err != nil {
		return pcm{}, err
	}
	n := len(data) / e.bytes
	if n/channels > int(MaxLength.Seconds())*rate {
		return pcm{}, ErrLong
	}
	n -= n % channels
	samples := make([]float32, n)
	for i := range samples {
		samples[i] = e.value(data[i*e.bytes:])
	}
	return pcm{samples: samples, channels: channels, rate: rate}, nil
}

// expandMuLaw is G.711 µ-law: ITU-T G.711 table 2, to 16 bits.
func expandMuLaw(b byte) int16 {
	b = ^b
	magnitude := (int16(b&0x0F)<<3 + 0x84) << (b >> 4 & 7)
	if b&0x80 != 0 {
		return 0x84 - magnitude
	}
	return magnitude - 0x84
}

// expandALaw is G.711 A-law: ITU-T G.711 table 1, to 16 bits.
func expandALaw(b byte) int16 {
	b ^= 0x55
	value := int16(b&0x0F)<<4 + 8
	if segment := b >> 4 & 7; segment > 0 {
		value = (value + 0x100) << (segment - 1)
	}
	if b&0x80 != 0 {
		return value
	}
	return -value
}
