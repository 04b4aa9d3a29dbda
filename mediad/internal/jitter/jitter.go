// Package jitter turns packets that arrive when they like into one frame a
// tick. It is a fixed ring of samples addressed by RTP timestamp, so packets
// of any length, order and number fit; the delay follows the network: late
// packets lengthen it, a long time without need shortens it. What is missing
// when its tick comes is concealed.
package jitter

import (
	"math/bits"

	"github.com/callmesh/callmesh/mediad/internal/codec"
)

const (
	// ringSamples is one second and a bit; a power of two, so that timestamps
	// wrap with it.
	ringSamples = 8192
	// maxDelay is where lengthening stops: beyond, a conversation suffers more
	// from delay than from gaps (ITU-T G.114).
	maxDelay = 200 * codec.SampleRate / 1000
	// startDelay before the first packet is played: two frames.
	startDelay = 2 * codec.FrameSamples
	// spare is how early the latest packet of a calm period may come before
	// the delay is shortened.
	spare = 3 * codec.FrameSamples
	// calm is that period in ticks: 5 s.
	calm = 250
)

// Figures of a buffer, counted from its beginning.
type Figures struct {
	// Late packets came after their tick, wholly or in part.
	Late uint64
	// Concealed frames were wholly or partly made up.
	Concealed uint64
	// Resets of the clock: the far end's timestamps jumped.
	Resets uint64
}

// Buffer is one stream's jitter buffer.
type Buffer struct {
	samples [ringSamples]int16
	valid   [ringSamples / 64]uint64

	running bool
	play    uint32 // timestamp of the next sample to play
	ahead   int32  // least earliness of the calm period, in samples
	ticks   int

	conceal concealer
	figures Figures
	scratch [maxPacket]int16
}

// maxPacket is the longest packet taken: 120 ms.
const maxPacket = 6 * codec.FrameSamples

// New returns an empty buffer.
func New() *Buffer { return &Buffer{} }

// Reset forgets the stream: a new source begins.
func (b *Buffer) Reset() {
	b.running = false
	b.valid = [len(b.valid)]uint64{}
}

// Figures so far.
func (b *Buffer) Figures() Figures { return b.figures }

// Delay of a packet that arrives in time, in samples.
func (b *Buffer) Delay() int { return int(b.ahead) }

// Put takes a packet's payload.
func (b *Buffer) Put(timestamp uint32, cd *codec.Codec, payload []byte) {
	n := cd.Decode(b.scratch[:], payload)
	if n == 0 {
		return
	}
	if !b.running {
		b.start(timestamp)
	}
	early := int32(timestamp - b.play)
	if early >= ringSamples-maxPacket || early < -ringSamples {
		b.Reset()
		b.figures.Resets++
		b.start(timestamp)
		early = startDelay
	}
	b.ahead = min(b.ahead, early)
	from := 0
	if early < 0 {
		b.figures.Late++
		// One tick for each late packet: a single straggler costs little, a
		// network that got slower is followed within a few packets.
		if b.depth() < maxDelay {
			b.play -= codec.FrameSamples
			b.ahead = 0
			early += codec.FrameSamples
		}
		if from = int(max(-early, 0)); from >= n {
			return
		}
	}
	b.store(timestamp+uint32(from), b.scratch[from:n])
}

// depth is how far the stream reaches beyond the play position.
func (b *Buffer) depth() int {
	deepest := 0
	for t := 0; t < maxDelay+maxPacket; t += codec.FrameSamples / 2 {
		if b.has(b.play + uint32(t)) {
			deepest = t
		}
	}
	return deepest
}

func (b *Buffer) start(timestamp uint32) {
	b.running = true
	b.play = timestamp - startDelay
	b.ahead, b.ticks = startDelay, 0
}

func (b *Buffer) has(t uint32) bool {
	i := t % ringSamples
	return b.valid[i/64]&(1<<(i%64)) != 0
}

func (b *Buffer) store(timestamp uint32, samples []int16) {
	for i, s := range samples {
		at := (timestamp + uint32(i)) % ringSamples
		b.samples[at] = s
		b.valid[at/64] |= 1 << (at % 64)
	}
}

// Next fills one frame and advances the clock by it.
func (b *Buffer) Next(frame []int16) {
	if !b.running {
		clear(frame)
		return
	}
	missing := 0
	for i := range frame {
		at := (b.play + uint32(i)) % ringSamples
		if b.valid[at/64]&(1<<(at%64)) == 0 {
			missing++
			frame[i] = b.conceal.sample()
			continue
		}
		frame[i] = b.conceal.real(b.samples[at])
	}
	if missing > 0 {
		b.figures.Concealed++
	}
	b.forget(len(frame))
	b.play += uint32(len(frame))
	b.adapt(len(frame))
}

// forget marks what has been played as missing, for the ring's next round.
func (b *Buffer) forget(n int) {
	for i := range uint32(n) {
		at := (b.play + i) % ringSamples
		b.valid[at/64] &^= 1 << (at % 64)
	}
}

// adapt shortens the delay by a frame when no packet of a calm period needed it.
func (b *Buffer) adapt(frame int) {
	if b.ticks++; b.ticks < calm {
		return
	}
	if b.ahead >= spare && b.buffered() {
		b.forget(frame)
		b.play += uint32(frame)
	}
	b.ticks, b.ahead = 0, ringSamples
}

// buffered tells whether there is a stream at all.
func (b *Buffer) buffered() bool {
	n := 0
	for _, w := range b.valid {
		n += bits.OnesCount64(w)
	}
	return n > 0
}
