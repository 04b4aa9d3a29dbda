// Package player decides what a leg plays in each tick: the clips of the
// step's playlist, and behind them a background that repeats. It hands out
// slices of the clips' shared encodings and copies nothing.
package player

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
)

// Tick is the length of a frame.
const Tick = 20 * time.Millisecond

// Player holds the clips that it plays until it is done with them. The zero
// value is silent.
type Player struct {
	playlist []*clip.Clip
	index    int
	frame    int
	skipped  bool

	background *clip.Clip
	pause      time.Duration
	position   int
	waiting    time.Duration
}

// Play starts a playlist and takes over the caller's holds on its clips.
func (p *Player) Play(playlist []*clip.Clip) {
	p.Clear()
	p.playlist, p.index, p.frame, p.skipped = playlist, 0, 0, false
	p.settle()
}

// Clear drops the playlist; the background stays.
func (p *Player) Clear() {
	for i, c := range p.playlist {
		if c != nil {
			c.Release()
			p.playlist[i] = nil
		}
	}
	p.playlist, p.index, p.frame = nil, 0, 0
}

// Done says whether the playlist is at its end.
func (p *Player) Done() bool { return p.index >= len(p.playlist) }

// Skip leaves the clip being played; the next one follows.
func (p *Player) Skip() {
	if p.Done() {
		return
	}
	p.skipped = true
	p.advance()
	p.settle()
}

// SkipAll leaves the playlist where it is and plays nothing more of it.
func (p *Player) SkipAll() {
	if p.Done() {
		return
	}
	p.skipped = true
	for !p.Done() {
		p.advance()
	}
}

// PlayedAll says whether the playlist was played to its end, nothing skipped.
func (p *Player) PlayedAll() bool { return p.Done() && !p.skipped }

// Length of the playlist.
func (p *Player) Length() int { return len(p.playlist) }

// Position is the clip being played and the time played of it. Ask before
// skipping.
func (p *Player) Position() (index int, at time.Duration) {
	return p.index, time.Duration(p.frame) * Tick
}

// advance goes to the next clip.
func (p *Player) advance() {
	p.playlist[p.index].Release()
	p.playlist[p.index] = nil
	p.index++
	p.frame = 0
}

// settle passes over clips without audio.
func (p *Player) settle() {
	for !p.Done() && p.frame >= p.playlist[p.index].Frames() {
		p.advance()
	}
}

// SetBackground plays c whenever the playlist is at its end, again and again
// with a pause between. The same clip goes on where it is. The caller's hold
// is taken over.
func (p *Player) SetBackground(c *clip.Clip, pause time.Duration) {
	p.pause = pause
	if p.background == c {
		c.Release()
		return
	}
	p.StopBackground()
	p.background = c
}

// StopBackground ends the background.
func (p *Player) StopBackground() {
	if p.background != nil {
		p.background.Release()
	}
	p.background, p.position, p.waiting = nil, 0, 0
}

// Missing appends the clips that have no encoding for cd yet.
func (p *Player) Missing(cd *codec.Codec, to []*clip.Clip) []*clip.Clip {
	for _, c := range p.playlist {
		if c != nil && c.Encoded(cd) == nil {
			to = append(to, c)
		}
	}
	if p.background != nil && p.background.Encoded(cd) == nil {
		to = append(to, p.background)
	}
	return to
}

// Next is the payload of this tick; nil when there is only silence.
func (p *Player) Next(cd *codec.Codec) []byte {
	if p.Done() {
		return p.nextBackground(cd)
	}
	payload := frame(p.playlist[p.index], cd, p.frame)
	p.frame++
	p.settle()
	return payload
}

func (p *Player) nextBackground(cd *codec.Codec) []byte {
	if p.background == nil || p.background.Frames() == 0 {
		return nil
	}
	if p.waiting > 0 {
		p.waiting -= Tick
		return nil
	}
	payload := frame(p.background, cd, p.position)
	p.position++
	if p.position == p.background.Frames() {
		p.position, p.waiting = 0, p.pause
	}
	return payload
}

func frame(c *clip.Clip, cd *codec.Codec, n int) []byte {
	data := c.Encoded(cd)
	if data == nil {
		return nil
	}
	return data[n*cd.FrameBytes:][:cd.FrameBytes]
}
