// Package codec holds the audio codecs a leg may speak. A codec turns 20 ms
// of linear 16-bit samples into one RTP payload and back; which ones exist is
// decided by the registry that the daemon builds at start.
package codec

import "strings"

// SampleRate is the rate of linear audio inside mediad: clips, frames, taps.
const SampleRate = 8000

// FrameSamples is one tick of audio: 20 ms, the packet time of RFC 3551 §4.2.
const FrameSamples = SampleRate / 50

// Codec is one encoding. It is immutable and shared by all legs.
type Codec struct {
	// Name as in SDP, RFC 3551 §6.
	Name string
	// PayloadType is the static number of RFC 3551; a description may map another.
	PayloadType uint8
	// ClockRate of the RTP timestamps.
	ClockRate int
	// FrameBytes is the payload of one tick.
	FrameBytes int

	index   int
	silence []byte
	encode  func(dst []byte, src []int16)
	decode  func(dst []int16, src []byte)
}

// Index numbers the codec within its registry, from 0.
func (c *Codec) Index() int { return c.index }

// Silence is one frame of it; callers must not write to it.
func (c *Codec) Silence() []byte { return c.silence }

// EncodedLen is the payload size of n samples.
func (c *Codec) EncodedLen(n int) int { return n * c.FrameBytes / FrameSamples }

// Encode writes the payload of src to dst, which must hold EncodedLen(len(src)).
func (c *Codec) Encode(dst []byte, src []int16) { c.encode(dst, src) }

// Decode writes the samples of src to dst and returns how many there are.
// What dst cannot hold is left out.
func (c *Codec) Decode(dst []int16, src []byte) int {
	n := min(len(dst), len(src)*FrameSamples/c.FrameBytes)
	c.decode(dst[:n], src)
	return n
}

// Registry is the fixed set of codecs of a process.
type Registry struct {
	codecs []*Codec
}

// NewRegistry numbers the codecs in the order given.
func NewRegistry(codecs ...*Codec) *Registry {
	for i, c := range codecs {
		c.index = i
		c.silence = make([]byte, c.FrameBytes)
		c.encode(c.silence, make([]int16, FrameSamples))
	}
	return &Registry{codecs: codecs}
}

// Lookup finds a codec by its SDP name (case-insensitive, RFC 4566 §6) and
// clock rate; a rate of 0 means the codec's own.
func (r *Registry) Lookup(name string, rate int) (*Codec, bool) {
	for _, c := range r.codecs {
		if strings.EqualFold(c.Name, name) && (rate == 0 || rate == c.ClockRate) {
			return c, true
		}
	}
	return nil, false
}

// Len is the number of codecs, for tables by Index.
func (r *Registry) Len() int { return len(r.codecs) }
