package jitter_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/jitter"
)

const frame = codec.FrameSamples

// sender makes a tone in packets of any length.
type sender struct {
	cd        *codec.Codec
	hz        float64
	timestamp uint32
	n         int
}

func newSender() *sender {
	cd := codec.NewPCMU()
	codec.NewRegistry(cd)
	return &sender{cd: cd, hz: 400, timestamp: 0xFFFFFF00}
}

// packet returns the next samples encoded.
func (s *sender) packet(samples int) (timestamp uint32, payload []byte) {
	linear := make([]int16, samples)
	for i := range linear {
		linear[i] = int16(8000 * math.Sin(2*math.Pi*s.hz*float64(s.n+i)/codec.SampleRate))
	}
	payload = make([]byte, samples)
	s.cd.Encode(payload, linear)
	timestamp = s.timestamp
	s.timestamp += uint32(samples)
	s.n += samples
	return timestamp, payload
}

// purity is the share of the tone in the energy of samples (Goertzel).
func purity(samples []int16, hz float64) float64 {
	var s1, s2, energy float64
	k := 2 * math.Cos(2*math.Pi*hz/codec.SampleRate)
	for _, v := range samples {
		s1, s2 = float64(v)+k*s1-s2, s1
		energy += float64(v) * float64(v)
	}
	if energy == 0 {
		return 0
	}
	return (s1*s1 + s2*s2 - k*s1*s2) / (energy * float64(len(samples)) / 2)
}

func TestAPerfectStreamComesOutAsItIs(t *testing.T) {
	for _, size := range []int{80, 160, 240, 480} {
		s, b := newSender(), jitter.New()
		var out []int16
		sent := 0
		for tick := range 200 {
			for sent < (tick+1)*frame {
				timestamp, payload := s.packet(size)
				b.Put(timestamp, s.cd, payload)
				sent += size
			}
			var f [frame]int16
			b.Next(f[:])
			out = append(out, f[:]...)
		}
		if p := purity(out[4*frame:], s.hz); p < 0.98 {
			t.Errorf("packets of %d: purity %.3f", size, p)
		}
		if f := b.Figures(); f.Late != 0 || f.Resets != 0 {
			t.Errorf("packets of %d: %+v", size, f)
		}
	}
}

func TestReorderAndDuplicatesChangeNothing(t *testing.T) {
	s, b := newSender(), jitter.New()
	var out []int16
	type pkt struct {
		timestamp uint32
		payload   []byte
	}
	var held *pkt
	for tick := range 200 {
		timestamp, payload := s.packet(frame)
		switch tick % 7 {
		case 3: // overtaken by the next one
			held = &pkt{timestamp, payload}
		default:
			b.Put(timestamp, s.cd, payload)
			b.Put(timestamp, s.cd, payload)
			if held != nil {
				b.Put(held.timestamp, s.cd, held.payload)
				held = nil
			}
		}
		var f [frame]int16
		b.Next(f[:])
		out = append(out, f[:]...)
	}
	if p := purity(out[4*frame:], s.hz); p < 0.98 {
		t.Errorf("purity %.3f", p)
	}
	if f := b.Figures(); f.Late != 0 || f.Concealed > 2 {
		t.Errorf("%+v", f)
	}
}

func TestLossIsConcealed(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	s, b := newSender(), jitter.New()
	var out []int16
	lost := uint64(0)
	for tick := range 500 {
		timestamp, payload := s.packet(frame)
		if tick > 5 && random.Float64() < 0.1 {
			lost++
		} else {
			b.Put(timestamp, s.cd, payload)
		}
		var f [frame]int16
		b.Next(f[:])
		out = append(out, f[:]...)
	}
	// A tone with gaps of silence would have a purity of about 0.9.
	if p := purity(out[4*frame:], s.hz); p < 0.94 {
		t.Errorf("purity %.3f with 10 %% loss", p)
	}
	if f := b.Figures(); f.Concealed < lost-2 || f.Concealed > lost+4 {
		t.Errorf("%d concealed, %d lost", f.Concealed, lost)
	}
}

func TestALongGapFadesToSilence(t *testing.T) {
	s, b := newSender(), jitter.New()
	var f [frame]int16
	for range 20 {
		timestamp, payload := s.packet(frame)
		b.Put(timestamp, s.cd, payload)
		b.Next(f[:])
	}
	for range 10 {
		b.Next(f[:])
	}
	for _, v := range f {
		if v != 0 {
			t.Fatalf("%d in the tenth frame without packets", v)
		}
	}
}

func TestDelayFollowsTheNetwork(t *testing.T) {
	s, b := newSender(), jitter.New()
	var f [frame]int16
	var queue [][2]any
	put := func() {
		timestamp, payload := s.packet(frame)
		queue = append(queue, [2]any{timestamp, payload})
	}
	deliver := func(keep int) {
		for len(queue) > keep {
			b.Put(queue[0][0].(uint32), s.cd, queue[0][1].([]byte))
			queue = queue[1:]
		}
	}
	run := func(ticks, behind int) (late uint64) {
		before := b.Figures().Late
		for range ticks {
			put()
			deliver(behind)
			b.Next(f[:])
		}
		return b.Figures().Late - before
	}
	run(100, 0)
	if late := run(50, 5); late == 0 {
		t.Error("100 ms more of delay and no packet late")
	}
	if late := run(500, 5); late != 0 {
		t.Errorf("%d packets late after the buffer had time to adapt", late)
	}
	deep := b.Delay()
	run(3000, 0)
	if b.Delay() >= deep+5*frame {
		t.Errorf("delay %d samples, never shortened", b.Delay())
	}
}

func TestAJumpOfTimestampsResets(t *testing.T) {
	s, b := newSender(), jitter.New()
	var f [frame]int16
	var out []int16
	for tick := range 100 {
		if tick == 50 {
			s.timestamp += 1 << 30
		}
		timestamp, payload := s.packet(frame)
		b.Put(timestamp, s.cd, payload)
		b.Next(f[:])
		if tick > 55 {
			out = append(out, f[:]...)
		}
	}
	if p := purity(out, s.hz); p < 0.98 || b.Figures().Resets != 1 {
		t.Errorf("purity %.3f, %+v", p, b.Figures())
	}
}

func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 10, 160, 0, 0, 0, 200, 160})
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0, 0, 255, 127, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		s, b := newSender(), jitter.New()
		var out [frame]int16
		payload := make([]byte, 2000)
		for len(script) >= 5 {
			timestamp := uint32(script[0])<<24 | uint32(script[1])<<16 | uint32(script[2])<<8 | uint32(script[3])
			b.Put(timestamp, s.cd, payload[:int(script[4])*7])
			b.Next(out[:])
			script = script[5:]
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	s, buffer := newSender(), jitter.New()
	timestamp, payload := s.packet(frame)
	var f [frame]int16
	b.ReportAllocs()
	for b.Loop() {
		buffer.Put(timestamp, s.cd, payload)
		buffer.Next(f[:])
		timestamp += frame
	}
}
