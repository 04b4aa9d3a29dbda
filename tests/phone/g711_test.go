package phone

import "testing"

// Anchors of ITU-T G.711 tables 1a/2a: zero, the extremes and a sign change.
func TestG711Anchors(t *testing.T) {
	for _, tc := range []struct {
		codec  Codec
		sample int16
		code   byte
	}{
		{PCMU, 0, 0xFF}, {PCMU, 32767, 0x80}, {PCMU, -32768, 0x00},
		{PCMA, 8, 0xD5}, {PCMA, -8, 0x55}, {PCMA, 32767, 0xAA}, {PCMA, -32768, 0x2A},
	} {
		if got := tc.codec.encode(tc.sample); got != tc.code {
			t.Errorf("%s of %d = %#x, want %#x", tc.codec.Name, tc.sample, got, tc.code)
		}
	}
}

func TestG711EveryCodeSurvivesARoundTrip(t *testing.T) {
	for _, codec := range []Codec{PCMU, PCMA} {
		for code := range 256 {
			sample := codec.decode(byte(code))
			again := codec.encode(sample)
			if codec.decode(again) != sample {
				t.Errorf("%s %#x -> %d -> %#x -> %d", codec.Name, code, sample, again, codec.decode(again))
			}
		}
	}
}
