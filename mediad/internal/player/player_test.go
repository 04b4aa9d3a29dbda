package player_test

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/player"
)

type library struct {
	store *clip.Store
	pcmu  *codec.Codec
}

func newLibrary() *library {
	pcmu := codec.NewPCMU()
	return &library{store: clip.NewStore(1<<26, codec.NewRegistry(pcmu)), pcmu: pcmu}
}

// clip of samples that all have the value.
func (l *library) clip(t rapid.TB, value int16, samples int) *clip.Clip {
	var raw []byte
	for range samples {
		raw = binary.LittleEndian.AppendUint16(raw, uint16(value))
	}
	id := clip.ID(raw)
	if _, err := l.store.Put(id, raw); err != nil {
		t.Fatal(err)
	}
	c, _ := l.store.Acquire(id)
	c.Encode(l.pcmu)
	return c
}

// What a player plays is the clips' frames one after the other, with the
// skipped ones left out; the model is a flat list.
func TestPlayerAgainstModel(t *testing.T) {
	l := newLibrary()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 700), 0, 6).Draw(t, "lengths")
		var playlist []*clip.Clip
		var all []*clip.Clip
		for i, n := range lengths {
			c := l.clip(t, int16(1000*(i+1)), n)
			playlist = append(playlist, c)
			all = append(all, c)
		}
		before := make([]int, len(all))
		for i, c := range all {
			before[i] = c.Holds()
		}
		frames := func(i int) int { return (lengths[i] + codec.FrameSamples - 1) / codec.FrameSamples }

		var p player.Player
		p.Play(playlist)
		index, frame, skipped := 0, 0, false
		settle := func() {
			for index < len(lengths) && frame >= frames(index) {
				index, frame = index+1, 0
			}
		}
		settle()
		for !p.Done() {
			if i, at := p.Position(); i != index || at != time.Duration(frame)*player.Tick {
				t.Fatalf("at clip %d, %v; want %d, frame %d", i, at, index, frame)
			}
			switch rapid.IntRange(0, 12).Draw(t, "action") {
			case 0:
				p.Skip()
				index, frame, skipped = index+1, 0, true
			case 1:
				p.SkipAll()
				index, frame, skipped = len(lengths), 0, true
			default:
				payload := p.Next(l.pcmu)
				if len(payload) != codec.FrameSamples || payload[0] != all[index].Encoded(l.pcmu)[0] {
					t.Fatalf("frame %d of clip %d: wrong payload", frame, index)
				}
				frame++
			}
			settle()
		}
		if index != len(lengths) {
			t.Fatalf("done at clip %d of %d", index, len(lengths))
		}
		if p.PlayedAll() == skipped {
			t.Fatalf("played all: %v after skips: %v", p.PlayedAll(), skipped)
		}
		p.Clear()
		for i, c := range all {
			if c.Holds() != before[i]-1 && lengths[i] != 0 && !duplicate(lengths, i) {
				t.Fatalf("clip %d: %d holds, had %d", i, c.Holds(), before[i])
			}
		}
	})
}

// duplicate clips (both empty) share their holds.
func duplicate(lengths []int, i int) bool { return lengths[i] == 0 }

func TestBackgroundRepeatsWithAPause(t *testing.T) {
	l := newLibrary()
	var p player.Player
	p.SetBackground(l.clip(t, 2000, 2*codec.FrameSamples), 3*player.Tick)
	p.Play([]*clip.Clip{l.clip(t, 1000, codec.FrameSamples)})
	line := ""
	for range 12 {
		switch payload := p.Next(l.pcmu); {
		case payload == nil:
			line += "."
		case payload[0] == l.clip(t, 1000, codec.FrameSamples).Encoded(l.pcmu)[0]:
			line += "p"
		default:
			line += "m"
		}
	}
	if want := "pmm...mm...m"; line != want {
		t.Errorf("played %s, want %s", line, want)
	}
	p.StopBackground()
	if p.Next(l.pcmu) != nil {
		t.Error("the background goes on after its stop")
	}
}

func TestABackgroundWithoutAudioIsSilence(t *testing.T) {
	l := newLibrary()
	var p player.Player
	p.SetBackground(l.clip(t, 0, 0), 0)
	if p.Next(l.pcmu) != nil {
		t.Error("played something")
	}
}
