package audio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callmesh/callmesh/ivrd/internal/audio"
)

// sox makes the file that args describe and returns its bytes.
func sox(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("sox")
	if err != nil {
		t.Fatal("sox is missing: apt-get install sox")
	}
	file := filepath.Join(t.TempDir(), name)
	args = slices.Clone(args)
	args[slices.Index(args, "OUT")] = file
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("sox %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, data []byte, name, contentType string) []float64 {
	t.Helper()
	out, err := audio.Decode(data, name, contentType)
	if err != nil {
		t.Fatal(err)
	}
	samples := make([]float64, len(out)/2)
	for i := range samples {
		samples[i] = float64(int16(binary.LittleEndian.Uint16(out[2*i:]))) / 32768
	}
	return samples
}

// level is the amplitude of a frequency, 1 for full scale (Goertzel).
func level(samples []float64, hz float64) float64 {
	var re, im float64
	for i, s := range samples {
		a := 2 * math.Pi * hz * float64(i) / audio.Rate
		re += s * math.Cos(a)
		im += s * math.Sin(a)
	}
	return 2 * math.Hypot(re, im) / float64(len(samples))
}

// TestFormats: one second of 1000 Hz at half scale, as sox writes it, comes out
// as that.
func TestFormats(t *testing.T) {
	tests := []struct {
		name   string
		format []string
		file   string
	}{
		{"WAV 16 bits", []string{"-r", "8000", "-b", "16"}, "a.wav"},
		{"WAV 8 bits", []string{"-r", "8000", "-b", "8", "-e", "unsigned"}, "a.wav"},
		{"WAV 24 bits, extensible", []string{"-r", "48000", "-b", "24"}, "a.wav"},
		{"WAV 32 bits", []string{"-r", "32000", "-b", "32", "-e", "signed"}, "a.wav"},
		{"WAV float", []string{"-r", "16000", "-b", "32", "-e", "float"}, "a.wav"},
		{"WAV A-law", []string{"-r", "8000", "-e", "a-law"}, "a.wav"},
		{"WAV u-law", []string{"-r", "8000", "-e", "u-law"}, "a.wav"},
		{"WAV u-law 11025", []string{"-r", "11025", "-e", "u-law"}, "a.wav"},
		{"WAV stereo 44100", []string{"-r", "44100", "-c", "2", "-b", "16"}, "a.wav"},
		{"WAV 22050", []string{"-r", "22050", "-b", "16"}, "a.wav"},
		{"WAV 6000", []string{"-r", "6000", "-b", "16"}, "a.wav"},
		{"WAV at an odd rate", []string{"-r", "44101", "-b", "16"}, "a.wav"},
		{"WAV 96000", []string{"-r", "96000", "-b", "16"}, "a.wav"},
		{"au u-law", []string{"-r", "8000", "-e", "u-law"}, "a.au"},
		{"au A-law", []string{"-r", "8000", "-e", "a-law"}, "a.au"},
		{"au 16 bits", []string{"-r", "16000", "-b", "16", "-e", "signed"}, "a.au"},
		{"raw u-law", []string{"-r", "8000", "-e", "u-law", "-t", "raw"}, "a.ulaw"},
		{"raw A-law", []string{"-r", "8000", "-e", "a-law", "-t", "raw"}, "a.alaw"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"-D", "-n"}, tc.format...)
			args = append(args, "OUT", "synth", "1", "sine", "1000", "vol", "0.5")
			got := decode(t, sox(t, tc.file, args...), tc.file, "")
			if n := len(got); n < 7995 || n > 8005 {
				t.Errorf("%d samples, want 8000", n)
			}
			if l := level(got, 1000); math.Abs(l-0.5) > 0.01 {
				t.Errorf("1000 Hz at %.3f, want 0.5", l)
			}
			middle := got[400:7600]
			var noise float64
			phase := level(middle, 1000)
			for _, s := range middle {
				noise += s * s
			}
			if rms := math.Sqrt(noise / float64(len(middle))); math.Abs(rms-phase/math.Sqrt2) > 0.02 {
				t.Errorf("power %.3f does not fit a tone of %.3f", rms, phase)
			}
		})
	}
}

// TestG711BitExact compares every code with what sox makes of it.
func TestG711BitExact(t *testing.T) {
	codes := make([]byte, 256)
	for i := range codes {
		codes[i] = byte(i)
	}
	for _, law := range []string{"u-law", "a-law"} {
		in := filepath.Join(t.TempDir(), "codes")
		if err := os.WriteFile(in, codes, 0o600); err != nil {
			t.Fatal(err)
		}
		want := sox(t, "out.raw", "-t", "raw", "-r", "8000", "-c", "1", "-e", law, "-b", "8", in, "-t", "raw", "-e", "signed", "-b", "16", "OUT")
		got, err := audio.Decode(codes, "codes."+strings.Replace(law, "-", "", 1), "")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from sox", law)
		}
	}
}

// wav wraps 16-bit mono samples.
func wav(rate int, samples []float64) []byte {
	var b bytes.Buffer
	le := binary.LittleEndian
	b.WriteString("RIFF")
	_ = binary.Write(&b, le, uint32(36+2*len(samples)))
	b.WriteString("WAVEfmt ")
	for _, v := range []any{uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2), uint16(16)} {
		_ = binary.Write(&b, le, v)
	}
	b.WriteString("data")
	_ = binary.Write(&b, le, uint32(2*len(samples)))
	for _, s := range samples {
		_ = binary.Write(&b, le, int16(math.Round(s*32767)))
	}
	return b.Bytes()
}

func tone(rate int, hz, amplitude float64) []float64 {
	out := make([]float64, rate)
	for i := range out {
		out[i] = amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))
	}
	return out
}

// TestResampling: speech passes, what would fold back into it does not.
func TestResampling(t *testing.T) {
	for _, rate := range []int{11025, 16000, 22050, 32000, 44100, 48000} {
		for _, hz := range []float64{300, 1000, 2000, 3400} {
			got := decode(t, wav(rate, tone(rate, hz, 0.5)), "", "")[200:7800]
			l := level(got, hz)
			if db := 20 * math.Log10(l/0.5); math.Abs(db) > 0.5 {
				t.Errorf("%d Hz: %.0f Hz passes at %+.2f dB", rate, hz, db)
			}
			// What is left once the tone is taken out.
			var power float64
			for _, s := range got {
				power += s * s
			}
			rest := power/float64(len(got)) - l*l/2
			if db := 10 * math.Log10(math.Max(rest, 1e-12)/(l*l/2)); db > -55 {
				t.Errorf("%d Hz: %.0f Hz comes with noise at %.0f dB", rate, hz, db)
			}
		}
		for _, hz := range []float64{4600, 5000, 5400} {
			if hz >= float64(rate)/2 {
				continue
			}
			for i, s := range decode(t, wav(rate, tone(rate, hz, 0.5)), "", "")[200:7800] {
				if math.Abs(s) > 0.5*0.001 { // -60 dB
					t.Errorf("%d Hz: %.0f Hz is heard at sample %d: %.5f", rate, hz, i, s)
					break
				}
			}
		}
	}
}

// TestClipping: full scale through the filter stays loud and does not wrap.
func TestClipping(t *testing.T) {
	square := make([]float64, 16000)
	for i := range square {
		square[i] = 1
		if i/40%2 == 1 {
			square[i] = -1
		}
	}
	got := decode(t, wav(16000, square), "", "")
	for i := 30; i < len(got)-30; i++ {
		if got[i] > 0.9 && got[i+1] < -0.95 || got[i] < -0.9 && got[i+1] > 0.95 {
			t.Fatalf("samples %d and %d jump from %.2f to %.2f", i, i+1, got[i], got[i+1])
		}
	}
}

// TestWAVFromAPipe: programs that cannot seek leave sizes of 0 or all ones.
func TestWAVFromAPipe(t *testing.T) {
	for _, size := range []uint32{0, 0xFFFFFFFF, 0x7FFFFFFF} {
		data := wav(8000, tone(8000, 440, 0.5))
		binary.LittleEndian.PutUint32(data[40:], size)
		if got := decode(t, data, "", ""); len(got) != 8000 {
			t.Errorf("size %#x: %d samples", size, len(got))
		}
	}
}

func TestWAVWithOtherChunks(t *testing.T) {
	data := wav(8000, tone(8000, 440, 0.5))
	odd := append([]byte("LIST\x03\x00\x00\x00abc\x00"), data[12:]...)
	if got := decode(t, append(slices.Clone(data[:12]), odd...), "", ""); len(got) != 8000 {
		t.Errorf("%d samples", len(got))
	}
}

func TestRefused(t *testing.T) {
	good := wav(8000, tone(8000, 440, 0.5))
	with := func(at int, b ...byte) []byte {
		data := slices.Clone(good)
		copy(data[at:], b)
		return data
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not WAV"},
		{"text", []byte("hello, this is no audio at all"), "not WAV"},
		{"MP3 with a tag", []byte("ID3\x04"), "MP3"},
		{"MP3 frame", []byte{0xFF, 0xFB, 0x90, 0x00}, "MP3"},
		{"header alone", good[:44], "no audio"},
		{"cut before the data", good[:36], "no data chunk"},
		{"cut in the header", good[:10], "not WAV"},
		{"no channels", with(22, 0), "0 channels"},
		{"many channels", with(22, 200), "200 channels"},
		{"rate 0", with(24, 0, 0), "sample rate of 0 Hz"},
		{"huge rate", with(24, 0xFF, 0xFF, 0xFF, 0x7F), "sample rate"},
		{"ADPCM", with(20, 2), "WAV format 2"},
		{"12 bits", with(34, 12), "12 bits"},
		{"au pointing outside", []byte(".snd\x7f\xff\xff\xff" + strings.Repeat("\x00", 20)), "points outside"},
		{"au cut off", []byte(".snd"), "cut off"},
		{"au G.721", []byte(".snd\x00\x00\x00\x18\xff\xff\xff\xff\x00\x00\x00\x17\x00\x00\x1f\x40\x00\x00\x00\x01zz"), "encoding 23"},
	}
	for _, tc := range tests {
		if _, err := audio.Decode(tc.data, "a.wav", ""); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	long := make([]byte, 44+31*60*4000)
	copy(long, with(24, 0xA0, 0x0F)) // 4000 Hz
	long[34] = 8
	binary.LittleEndian.PutUint32(long[40:], uint32(len(long)-44))
	if _, err := audio.Decode(long, "", ""); !errors.Is(err, audio.ErrLong) {
		t.Errorf("31 minutes: %v", err)
	}
}

// FuzzDecode: a customer's file is decoded or refused, and never more than the
// longest allowed.
func FuzzDecode(f *testing.F) {
	small := wav(8000, tone(8000, 440, 0.5)[:100])
	f.Add(small, "a.wav")
	f.Add(small[:20], "a.wav")
	f.Add(wav(44100, tone(44100, 440, 0.5)[:100]), "a.wav")
	f.Add([]byte(".snd\x00\x00\x00\x18\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x1f\x40\x00\x00\x00\x01abcdefgh"), "a.au")
	f.Add([]byte("abcdef"), "a.ulaw")
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVEdata\xff\xff\xff\xff"), "")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		out, err := audio.Decode(data, name, "")
		if err != nil {
			return
		}
		if len(out) == 0 || len(out)%2 != 0 || len(out) > 2*audio.Rate*int(audio.MaxLength.Seconds()+1) {
			t.Fatalf("%d bytes of samples from %d", len(out), len(data))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, rate := range []int{8000, 22050, 48000} {
		data := wav(rate, tone(rate, 440, 0.5))
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			for b.Loop() {
				if _, err := audio.Decode(data, "", ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
