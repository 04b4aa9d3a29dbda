package prompts

import (
	"bytes"
	"encoding/binary"
	"math"
)

const (
	rate = 8000
	// note is 180 ms, with edges of 10 ms against clicks.
	note = rate * 180 / 1000
	edge = rate * 10 / 1000
)

// Melody returns the notes, in hertz, as a 16-bit mono WAV file at 8000 Hz; 0 is
// a pause.
func Melody(notes []float64) []byte {
	samples := make([]int16, 0, len(notes)*note)
	for _, hz := range notes {
		for i := range note {
			loudness := 8000 * min(1, float64(i)/edge, float64(note-i)/edge)
			samples = append(samples, int16(loudness*math.Sin(2*math.Pi*hz*float64(i)/rate)))
		}
	}
	return wav(samples)
}

func wav(samples []int16) []byte {
	var b bytes.Buffer
	size := uint32(2 * len(samples))
	head := struct {
		RIFF          [4]byte
		Size          uint32
		WAVE, Fmt     [4]byte
		FmtSize       uint32
		PCM, Channels uint16
		Rate, Bytes   uint32
		Block, Bits   uint16
		Data          [4]byte
		DataSize      uint32
	}{
		RIFF: [4]byte([]byte("RIFF")), Size: 36 + size, WAVE: [4]byte([]byte("WAVE")), Fmt: [4]byte([]byte("fmt ")),
		FmtSize: 16, PCM: 1, Channels: 1, Rate: rate, Bytes: 2 * rate, Block: 2, Bits: 16,
		Data: [4]byte([]byte("data")), DataSize: size,
	}
	// A buffer takes everything.
	_ = binary.Write(&b, binary.LittleEndian, head)
	_ = binary.Write(&b, binary.LittleEndian, samples)
	return b.Bytes()
}
