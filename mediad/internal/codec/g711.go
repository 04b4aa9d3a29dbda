package codec

import "math/bits"

// NewPCMU returns G.711 µ-law, payload type 0.
func NewPCMU() *Codec { return newG711("PCMU", 0, 14, encodeMuLaw, decodeMuLaw) }

// NewPCMA returns G.711 A-law, payload type 8.
func NewPCMA() *Codec { return newG711("PCMA", 8, 13, encodeALaw, decodeALaw) }

// newG711 fills look-up tables once: an encode table over all 16-bit samples
// costs 64 kB a process and makes a sample one load.
func newG711(name string, pt uint8, width uint, encode func(int) byte, decode func(byte) int16) *Codec {
	var (
		compress = make([]byte, 1<<16)
		expand   [1 << 8]int16
	)
	for i := range compress {
		compress[i] = encode(round(int(int16(i)), width))
	}
	for i := range expand {
		expand[i] = decode(byte(i))
	}
	return &Codec{
		Name: name, PayloadType: pt, ClockRate: SampleRate, FrameBytes: FrameSamples,
		encode: func(dst []byte, src []int16) {
			_ = dst[:len(src)]
			for i, s := range src {
				dst[i] = compress[uint16(s)]
			}
		},
		decode: func(dst []int16, src []byte) {
			_ = src[:len(dst)]
			for i := range dst {
				dst[i] = expand[src[i]]
			}
		},
	}
}

// round reduces a 16-bit sample to width bits. G.711 takes 14 (µ-law) and 13
// (A-law) bits; rounding to nearest halves the error of cutting them off.
func round(sample int, width uint) int {
	shift := 16 - width
	return min((sample+1<<(shift-1))>>shift, 1<<(width-1)-1)
}

// encodeMuLaw compresses a 14-bit sample, G.711 table 2: a bias of 33 makes
// each segment start at a power of two.
func encodeMuLaw(sample int) byte {
	const (
		bias = 33
		clip = 8158
	)
	var sign byte
	if sample < 0 {
		sample, sign = -sample, 0x80
	}
	biased := min(sample, clip) + bias
	segment := bits.Len(uint(biased)) - 6
	return ^(sign | byte(segment)<<4 | byte(biased>>(segment+1))&0x0F)
}

func decodeMuLaw(code byte) int16 {
	const bias = 0x84
	code = ^code
	sample := (int(code&0x0F)<<3+bias)<<(code>>4&7) - bias
	if code&0x80 != 0 {
		sample = -sample
	}
	return int16(sample)
}

// encodeALaw compresses a 13-bit sample, G.711 table 1; even bits are
// inverted on the line (0x55).
func encodeALaw(sample int) byte {
	mask := byte(0xD5)
	if sample < 0 {
		sample, mask = -sample-1, 0x55
	}
	sample = min(sample, 4095)
	segment := max(0, bits.Len(uint(sample))-5)
	mantissa := sample >> max(segment, 1) & 0x0F
	return (byte(segment)<<4 | byte(mantissa)) ^ mask
}

func decodeALaw(code byte) int16 {
	code ^= 0x55
	segment := int(code >> 4 & 7)
	sample := int(code&0x0F)<<4 + 8
	if segment > 0 {
		sample = (sample + 0x100) << (segment - 1)
	}
	if code&0x80 == 0 {
		sample = -sample
	}
	return int16(sample)
}
