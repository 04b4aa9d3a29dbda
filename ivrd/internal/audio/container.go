package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WAVE format codes (Microsoft mmreg.h).
const (
	wavePCM        = 1
	waveFloat      = 3
	waveALaw       = 6
	waveMuLaw      = 7
	waveMP3        = 0x55
	waveExtensible = 0xFFFE
)

// parseWAV reads RIFF WAVE. Sizes are taken as a hint: programs that write to a
// pipe leave them 0 or all ones, and what is there is what counts.
func parseWAV(data []byte) (pcm, error) {
	if len(data) < 12 || string(data[8:12]) != "WAVE" {
		return pcm{}, ErrFormat
	}
	var format []byte
	for rest := data[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		rest = rest[8:]
		body := rest[:min(size, int64(len(rest)))]
		switch id {
		case "fmt ":
			format = body
		case "data":
			if format == nil {
				return pcm{}, errors.New("the WAV file has no fmt chunk before its data")
			}
			if size == 0 || size == 0xFFFFFFFF {
				body = rest
			}
			return wavData(format, body)
		}
		// Chunks are padded to an even length.
		rest = rest[min(size+size&1, int64(len(rest))):]
	}
	return pcm{}, errors.New("the WAV file has no data chunk")
}

func wavData(format, body []byte) (pcm, error) {
	if len(format) < 16 {
		return pcm{}, errors.New("the fmt chunk of the WAV file is too short")
	}
	le := binary.LittleEndian
	code, channels := le.Uint16(format), int(le.Uint16(format[2:]))
	rate, bits := int(le.Uint32(format[4:])), int(le.Uint16(format[14:]))
	if code == waveExtensible && len(format) >= 26 {
		code = le.Uint16(format[24:]) // first field of the sub-format's GUID
	}
	switch {
	case code == wavePCM && bits == 8:
		return raw(body, unsigned8, rate, channels)
	case code == wavePCM && (bits == 16 || bits == 24 || bits == 32):
		return raw(body, linear(bits, le), rate, channels)
	case code == waveFloat && bits == 32:
		return raw(body, float(le), rate, channels)
	case code == waveALaw && bits == 8:
		return raw(body, alaw, rate, channels)
	case code == waveMuLaw && bits == 8:
		return raw(body, mulaw, rate, channels)
	case code == waveMP3:
		return pcm{}, ErrMP3
	}
	return pcm{}, fmt.Errorf("WAV format %d with %d bits is not supported: use 16-bit PCM, A-law or µ-law", code, bits)
}

// auUnknown is the data size of an .au file written to a pipe.
const auUnknown = 0xFFFFFFFF

// parseAU reads a Sun/NeXT .au file: six big-endian words, then the data.
func parseAU(data []byte) (pcm, error) {
	if len(data) < 24 {
		return pcm{}, errors.New("the .au header is cut off")
	}
	be := binary.BigEndian
	offset, size := int64(be.Uint32(data[4:])), int64(be.Uint32(data[8:]))
	code, rate, channels := be.Uint32(data[12:]), int(be.Uint32(data[16:])), int(be.Uint32(data[20:]))
	if offset < 24 || offset > int64(len(data)) {
		return pcm{}, errors.New("the .au header points outside the file")
	}
	body := data[offset:]
	if size != auUnknown {
		body = body[:min(size, int64(len(body)))]
	}
	encodings := map[uint32]encoding{
		1: mulaw, 2: signed8, 3: linear(16, be), 4: linear(24, be), 5: linear(32, be), 6: float(be), 27: alaw,
	}
	e, ok := encodings[code]
	if !ok {
		return pcm{}, fmt.Errorf(".au encoding %d is not supported: use 16-bit PCM, A-law or µ-law", code)
	}
	return raw(body, e, rate, channels)
}
