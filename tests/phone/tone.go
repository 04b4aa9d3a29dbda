package phone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// SampleRate of all audio here, in Hz.
const SampleRate = 8000

// Tone returns samples of a sine at a comfortable level (about -12 dBov).
func Tone(frequency float64, length time.Duration) []int16 {
	samples := make([]int16, int(length.Seconds()*SampleRate))
	for i := range samples {
		samples[i] = toneSample(frequency, i)
	}
	return samples
}

func toneSample(frequency float64, i int) int16 {
	return int16(8000 * math.Sin(2*math.Pi*frequency*float64(i)/SampleRate))
}

// WAV wraps samples as a 16-bit mono RIFF file.
func WAV(samples []int16) []byte {
	var b bytes.Buffer
	size := uint32(len(samples) * 2)
	write := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a Buffer takes everything
	b.WriteString("RIFF")
	write(36 + size)
	b.WriteString("WAVEfmt ")
	write(uint32(16))
	write([]uint16{1, 1})
	write([]uint32{SampleRate, SampleRate * 2})
	write([]uint16{2, 16})
	b.WriteString("data")
	write(size)
	write(samples)
	return b.Bytes()
}

// quietRMS is the level under which a window counts as silence: about -50 dBov,
// above the idle noise of G.711.
const quietRMS = 100

func rms(samples []int16) float64 {
	if len(samples) == 0 {
		return 0
	}
	var sum float64
	for _, s := range samples {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(samples)))
}

// Share returns how much of the energy of samples lies at the frequency: 1 for
// a pure tone, next to 0 for another tone or noise (Goertzel).
func Share(samples []int16, frequency float64) float64 {
	n := float64(len(samples))
	if n == 0 {
		return 0
	}
	coefficient := 2 * math.Cos(2*math.Pi*frequency/SampleRate)
	var s1, s2, energy float64
	for _, sample := range samples {
		x := float64(sample)
		energy += x * x
		s1, s2 = x+coefficient*s1-s2, s1
	}
	if energy == 0 {
		return 0
	}
	power := s1*s1 + s2*s2 - coefficient*s1*s2
	return 2 * power / (n * energy)
}

// IsTone tells whether samples are loud and mostly at the frequency, give or
// take 8 Hz.
func IsTone(samples []int16, frequency float64) bool {
	if rms(samples) < quietRMS {
		return false
	}
	for offset := -8.0; offset <= 8; offset += 4 {
		if Share(samples, frequency+offset) > 0.7 {
			return true
		}
	}
	return false
}

// ToneLength returns for how long in sum the frequency sounds in samples,
// measured in steps of 20 ms.
func ToneLength(samples []int16, frequency float64) time.Duration {
	const step = SampleRate / 50
	var length time.Duration
	for ; len(samples) >= step; samples = samples[step:] {
		// 20 ms resolve 50 Hz, which is enough to tell prompts apart.
		if rms(samples[:step]) >= quietRMS && Share(samples[:step], frequency) > 0.7 {
			length += 20 * time.Millisecond
		}
	}
	return length
}

// ReadWAV returns the samples of a 16-bit mono RIFF file.
func ReadWAV(data []byte) ([]int16, error) {
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return nil, errors.New("no RIFF WAVE file")
	}
	for rest := data[12:]; len(rest) >= 8; {
		size := int(binary.LittleEndian.Uint32(rest[4:]))
		body := rest[8:min(8+size, len(rest))]
		switch string(rest[:4]) {
		case "fmt ":
			if len(body) < 16 || binary.LittleEndian.Uint16(body) != 1 || binary.LittleEndian.Uint16(body[2:]) != 1 || binary.LittleEndian.Uint16(body[14:]) != 16 {
				return nil, errors.New("not 16-bit mono PCM")
			}
		case "data":
			samples := make([]int16, len(body)/2)
			for i := range samples {
				samples[i] = int16(binary.LittleEndian.Uint16(body[2*i:]))
			}
			return samples, nil
		}
		rest = rest[min(8+size+size%2, len(rest)):] // chunks are padded to even
	}
	return nil, errors.New("no data chunk")
}
