package codec_test

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"testing"

	"github.com/callmesh/callmesh/mediad/internal/codec"
)

// sox is the oracle: every 16-bit sample and every code must come out as sox
// makes it (-D: sox would dither otherwise).
func sox(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("sox")
	if err != nil {
		t.Fatal("sox is missing: apt-get install sox")
	}
	cmd := exec.Command(path, append([]string{"-D", "-V1"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sox: %v: %s", err, complaint.String())
	}
	return out
}

func TestG711IsBitExactWithSox(t *testing.T) {
	linear := []string{"-t", "raw", "-r", "8000", "-c", "1", "-e", "signed", "-b", "16", "-L", "-"}
	for encoding, c := range map[string]*codec.Codec{"u-law": codec.NewPCMU(), "a-law": codec.NewPCMA()} {
		t.Run(c.Name, func(t *testing.T) {
			coded := []string{"-t", "raw", "-r", "8000", "-c", "1", "-e", encoding, "-b", "8", "-"}

			samples := make([]int16, 1<<16)
			raw := make([]byte, 0, 2<<16)
			for i := range samples {
				samples[i] = int16(i - 1<<15)
				raw = binary.LittleEndian.AppendUint16(raw, uint16(samples[i]))
			}
			want := sox(t, raw, append(append([]string{}, linear...), coded...)...)
			got := make([]byte, len(samples))
			c.Encode(got, samples)
			if len(want) != len(got) {
				t.Fatalf("sox wrote %d codes, want %d", len(want), len(got))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("encode %d = %#x, sox says %#x", samples[i], got[i], want[i])
				}
			}

			codes := make([]byte, 256)
			for i := range codes {
				codes[i] = byte(i)
			}
			expanded := sox(t, codes, append(append([]string{}, coded...), linear...)...)
			decoded := make([]int16, 256)
			if n := c.Decode(decoded, codes); n != 256 {
				t.Fatalf("decoded %d samples, want 256", n)
			}
			for i, s := range decoded {
				if want := int16(binary.LittleEndian.Uint16(expanded[2*i:])); s != want {
					t.Errorf("decode %#x = %d, sox says %d", i, s, want)
				}
			}
		})
	}
}

func TestRegistryLookup(t *testing.T) {
	r := codec.NewRegistry(codec.NewPCMU(), codec.NewPCMA())
	tests := []struct {
		name string
		rate int
		want string
	}{
		{"PCMU", 8000, "PCMU"}, {"pcma", 8000, "PCMA"}, {"PCMU", 0, "PCMU"}, {"PCMU", 16000, ""}, {"opus", 48000, ""},
	}
	for _, tt := range tests {
		c, ok := r.Lookup(tt.name, tt.rate)
		if ok != (tt.want != "") || ok && c.Name != tt.want {
			t.Errorf("Lookup(%q, %d) = %v, %v; want %q", tt.name, tt.rate, c, ok, tt.want)
		}
	}
}

func TestSilenceDecodesToNearZero(t *testing.T) {
	for _, c := range []*codec.Codec{codec.NewPCMU(), codec.NewPCMA()} {
		codec.NewRegistry(c)
		var frame [codec.FrameSamples]int16
		c.Decode(frame[:], c.Silence())
		for _, s := range frame {
			if s < -8 || s > 8 {
				t.Fatalf("%s: silence decodes to %d", c.Name, s)
			}
		}
	}
}

func TestDecodeKeepsToItsBuffers(t *testing.T) {
	c := codec.NewPCMU()
	short := make([]int16, 10)
	if n := c.Decode(short, make([]byte, 400)); n != 10 {
		t.Errorf("decoded %d samples into a buffer of 10", n)
	}
	if n := c.Decode(make([]int16, 400), make([]byte, 7)); n != 7 {
		t.Errorf("decoded %d samples of 7 bytes", n)
	}
}

func BenchmarkEncodeFrame(b *testing.B) {
	c := codec.NewPCMU()
	src, dst := make([]int16, codec.FrameSamples), make([]byte, codec.FrameSamples)
	b.ReportAllocs()
	for b.Loop() {
		c.Encode(dst, src)
	}
}
