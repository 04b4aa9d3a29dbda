package jitter

import "github.com/callmesh/callmesh/mediad/internal/codec"

// The concealer continues the last sound by repeating its pitch period, full
// for 10 ms and then fading, silent after 60 ms, as G.711 appendix I does; the
// first real samples after a gap fade in over the made-up ones.
const (
	history   = 320
	minPitch  = codec.SampleRate / 200
	maxPitch  = codec.SampleRate / 50
	fullFor   = 10 * codec.SampleRate / 1000
	silentAt  = 60 * codec.SampleRate / 1000
	blendOver = 4 * codec.SampleRate / 1000
)

type concealer struct {
	past  [history]int16 // the last real samples, a ring
	at    int
	gap   int // samples made up since the last real one
	pitch int
	blend int // samples still to fade over
}

// real passes a sample of the stream.
func (c *concealer) real(s int16) int16 {
	if c.gap > 0 {
		c.blend = min(blendOver, c.gap)
		c.gap = 0
	}
	if c.blend > 0 {
		weight := int32(c.blend) * 128 / (blendOver + 1)
		s = int16((int32(s)*(128-weight) + int32(c.repeat(blendOver-c.blend))*weight) / 128)
		c.blend--
	}
	c.past[c.at] = s
	c.at = (c.at + 1) % history
	return s
}

// sample makes one up.
func (c *concealer) sample() int16 {
	if c.gap == 0 {
		c.pitch = c.estimate()
	}
	s := int32(c.repeat(c.gap))
	if c.gap >= fullFor {
		s = s * int32(max(silentAt-c.gap, 0)) / (silentAt - fullFor)
	}
	if c.gap < silentAt {
		c.gap++
	}
	return int16(s)
}

// repeat is the n-th sample of the last pitch period, again and again.
func (c *concealer) repeat(n int) int16 {
	pitch := max(c.pitch, minPitch)
	return c.past[(c.at-pitch+n%pitch+history)%history]
}

// estimate finds the lag at which the last 20 ms resemble the sound before:
// the greatest correlation normalised by energy, every second sample.
func (c *concealer) estimate() int {
	const window = history - maxPitch
	best, lag := 0.0, maxPitch
	for l := minPitch; l <= maxPitch; l++ {
		var product, energy int64
		for i := 1; i <= window; i += 2 {
			a := int64(c.past[(c.at-i+history)%history])
			b := int64(c.past[(c.at-i-l+2*history)%history])
			product += a * b
			energy += b * b
		}
		if product <= 0 || energy == 0 {
			continue
		}
		if score := float64(product) * float64(product) / float64(energy); score > best*1.02 {
			best, lag = score, l
		}
	}
	return lag
}
