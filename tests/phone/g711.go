package phone

// Codec is one of the two G.711 laws.
type Codec struct {
	Name    string
	Payload uint8
	encode  func(int16) byte
	decode  func(byte) int16
}

// The codecs by their static payload types (RFC 3551 §6).
var (
	PCMU = Codec{"PCMU", 0, encodeMu, decodeMu}
	PCMA = Codec{"PCMA", 8, encodeA, decodeA}
)

const muBias = 0x84

func encodeMu(sample int16) byte {
	s, sign := int(sample), byte(0)
	if s < 0 {
		s, sign = -s, 0x80
	}
	s = min(s, 32635) + muBias
	exponent := 7
	for mask := 0x4000; s&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	return ^(sign | byte(exponent<<4) | byte(s>>(exponent+3))&0x0F)
}

func decodeMu(b byte) int16 {
	b = ^b
	magnitude := (int(b&0x0F)<<3 + muBias) << (b >> 4 & 7)
	if b&0x80 != 0 {
		return int16(muBias - magnitude)
	}
	return int16(magnitude - muBias)
}

func encodeA(sample int16) byte {
	s, sign := int(sample), byte(0x80)
	if s < 0 {
		s, sign = -s-1, 0
	}
	s = min(s>>3, 0xFFF)
	exponent := 0
	for v := s >> 5; v != 0; v >>= 1 {
		exponent++
	}
	mantissa := s >> 1 & 0x0F
	if exponent > 0 {
		mantissa = s >> exponent & 0x0F
	}
	return (sign | byte(exponent<<4) | byte(mantissa)) ^ 0x55
}

func decodeA(b byte) int16 {
	b ^= 0x55
	magnitude := int(b&0x0F)<<4 + 8
	if exponent := b >> 4 & 7; exponent > 0 {
		magnitude = (magnitude + 0x100) << (exponent - 1)
	}
	if b&0x80 != 0 {
		return int16(magnitude)
	}
	return int16(-magnitude)
}
