// Package audio turns the files that customers upload into what mediad plays:
// linear 16-bit mono at 8000 Hz. It reads WAV, Sun .au and headerless G.711.
package audio

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Rate is the sample rate of everything that is played.
const Rate = 8000

// Limits of one file. The contract sets none; half an hour is longer than any
// prompt and 29 MB as samples.
const (
	MaxLength   = 30 * time.Minute
	minRate     = 4000
	maxRate     = 192000
	maxChannels = 8
)

// Errors that say why a file cannot be played.
var (
	ErrEmpty  = errors.New("the file holds no audio")
	ErrFormat = errors.New("the file is not WAV, .au, .ulaw or .alaw audio")
	ErrMP3    = errors.New("MP3 cannot be played yet: use WAV")
	ErrLong   = fmt.Errorf("the audio is longer than %d minutes", int(MaxLength.Minutes()))
)

// pcm is audio as a file holds it, decoded to samples of -1 to 1.
type pcm struct {
	samples  []float32
	channels int
	rate     int
}

// Decode returns the samples of a file as 16-bit little-endian mono at 8000 Hz.
// name and contentType tell headerless G.711 apart; everything else is known by
// its content.
func Decode(data []byte, name, contentType string) ([]byte, error) {
	p, err := parse(data, name, contentType)
	if err != nil {
		return nil, err
	}
	if len(p.samples) < p.channels {
		return nil, ErrEmpty
	}
	if time.Duration(len(p.samples)/p.channels)*time.Second/time.Duration(p.rate) > MaxLength {
		return nil, ErrLong
	}
	return quantise(resample(p.mono(), p.rate, Rate)), nil
}

func parse(data []byte, name, contentType string) (pcm, error) {
	switch {
	case bytes.HasPrefix(data, []byte("RIFF")), bytes.HasPrefix(data, []byte("RF64")):
		return parseWAV(data)
	case bytes.HasPrefix(data, []byte(".snd")):
		return parseAU(data)
	}
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch strings.ToLower(path.Ext(name)) {
	case ".ulaw", ".ul", ".pcmu":
		kind = "audio/pcmu"
	case ".alaw", ".al", ".pcma":
		kind = "audio/pcma"
	}
	switch strings.TrimSpace(kind) {
	// audio/basic is µ-law at 8000 Hz (RFC 2046 §4.3).
	case "audio/pcmu", "audio/basic":
		return raw(data, mulaw, Rate, 1)
	case "audio/pcma":
		return raw(data, alaw, Rate, 1)
	}
	if bytes.HasPrefix(data, []byte("ID3")) || (len(data) > 1 && data[0] == 0xFF && data[1]&0xE6 == 0xE2) {
		return pcm{}, ErrMP3
	}
	return pcm{}, ErrFormat
}

// check bounds what a header claims before anything is allocated by it.
func check(rate, channels int) error {
	if rate < minRate || rate > maxRate {
		return fmt.Errorf("a sample rate of %d Hz is not within %d to %d", rate, minRate, maxRate)
	}
	if channels < 1 || channels > maxChannels {
		return fmt.Errorf("%d channels are not within 1 to %d", channels, maxChannels)
	}
	return nil
}

// mono averages the channels.
func (p pcm) mono() []float32 {
	if p.channels == 1 {
		return p.samples
	}
	out := make([]float32, len(p.samples)/p.channels)
	for i := range out {
		var sum float32
		for c := range p.channels {
			sum += p.samples[i*p.channels+c]
		}
		out[i] = sum / float32(p.channels)
	}
	return out
}

// quantise clips rather than wraps: a filter overshoots at full scale.
func quantise(samples []float32) []byte {
	out := make([]byte, 2*len(samples))
	for i, s := range samples {
		v := s * 32768
		switch {
		case v >= 32767:
			v = 32767
		case v <= -32768:
			v = -32768
		case v < 0:
			v -= 0.5
		default:
			v += 0.5
		}
		n := uint16(int16(v))
		out[2*i], out[2*i+1] = byte(n), byte(n>>8)
	}
	return out
}
