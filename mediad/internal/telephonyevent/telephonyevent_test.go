package telephonyevent_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/mediad/internal/telephonyevent"
)

const tick = 160

// packets is what a sender puts on the line for digits, in order.
func packets(digits string, duration, pause uint32) []telephonyevent.Packet {
	var (
		s   telephonyevent.Sender
		out []telephonyevent.Packet
	)
	for _, d := range digits {
		if !s.Queue(string(d), duration, pause) {
			panic("queue full")
		}
		for range (duration+pause)/tick + 3 {
			var p telephonyevent.Packet
			if s.Tick(uint32(1000+len(out)*tick), tick, &p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func receive(packets []telephonyevent.Packet) string {
	var (
		r      telephonyevent.Receiver
		digits []byte
	)
	for _, p := range packets {
		if key, ok := r.Packet(p.Payload[:], p.Timestamp, p.Marker); ok {
			digits = append(digits, key)
		}
	}
	return string(digits)
}

func TestSenderFollowsTheRFC(t *testing.T) {
	out := packets("5", 5*tick, 3*tick)
	if len(out) != 7 {
		t.Fatalf("%d packets, want 4 updates and 3 ends", len(out))
	}
	for i, p := range out {
		duration := uint16(p.Payload[2])<<8 | uint16(p.Payload[3])
		if want := uint16(min(i+1, 5) * tick); duration != want {
			t.Errorf("packet %d: duration %d, want %d", i, duration, want)
		}
		if end := p.Payload[1]&0x80 != 0; end != (i >= 4) {
			t.Errorf("packet %d: end = %v", i, end)
		}
		if p.Marker != (i == 0) {
			t.Errorf("packet %d: marker = %v", i, p.Marker)
		}
		if p.Timestamp != out[0].Timestamp || p.Payload[0] != 5 {
			t.Errorf("packet %d: timestamp %d, event %d", i, p.Timestamp, p.Payload[0])
		}
	}
}

func TestSenderPausesBetweenDigits(t *testing.T) {
	var s telephonyevent.Sender
	if !s.Queue("12", 2*tick, 5*tick) {
		t.Fatal("queue refused two digits")
	}
	var line string
	for i := range 20 {
		var p telephonyevent.Packet
		if s.Tick(uint32(i*tick), tick, &p) {
			line += string('0' + rune(p.Payload[0]))
		} else {
			line += "."
		}
	}
	// Two packets of tone, whose last is repeated twice within the pause of five.
	if want := "1111...2222........."; line != want {
		t.Errorf("line = %s, want %s", line, want)
	}
}

func TestSenderRefuses(t *testing.T) {
	var s telephonyevent.Sender
	if s.Queue("12x", tick, tick) || s.Busy() {
		t.Error("a letter that is no key was queued")
	}
	for range telephonyevent.QueueSize {
		if !s.Queue("1", tick, tick) {
			t.Fatal("refused before it was full")
		}
	}
	if s.Queue("1", tick, tick) {
		t.Error("queued beyond its size")
	}
}

func TestClearEndsTheTone(t *testing.T) {
	var (
		s telephonyevent.Sender
		p telephonyevent.Packet
	)
	s.Queue("12", 50*tick, tick)
	s.Tick(0, tick, &p)
	s.Clear()
	ends := 0
	for i := range 20 {
		if s.Tick(uint32(i*tick), tick, &p) && p.Payload[1]&0x80 != 0 {
			ends++
		}
	}
	if ends != 3 || s.Busy() {
		t.Errorf("%d end packets, busy %v", ends, s.Busy())
	}
}

func TestReceiver(t *testing.T) {
	type pkt struct {
		code      byte
		end       bool
		timestamp uint32
		marker    bool
	}
	tests := []struct {
		name string
		in   []pkt
		want string
	}{
		{"once for all packets", []pkt{{1, false, 10, true}, {1, false, 10, false}, {1, true, 10, false}, {1, true, 10, false}}, "1"},
		{"start lost", []pkt{{1, false, 10, false}, {1, true, 10, false}}, "1"},
		{"only an end arrives", []pkt{{1, true, 10, false}}, "1"},
		{"ends lost, same key again", []pkt{{1, false, 10, true}, {1, false, 2000, true}}, "11"},
		{"ends and marker lost, same key again", []pkt{{1, false, 10, true}, {1, false, 2000, false}}, "11"},
		{"late end of the earlier key", []pkt{{1, false, 10, true}, {2, false, 2000, true}, {1, true, 10, false}, {2, true, 2000, false}}, "12"},
		{"clock restarts", []pkt{{1, true, 1_000_000, true}, {2, true, 5, true}}, "12"},
		{"timestamp wraps", []pkt{{1, true, 0xFFFFFF00, true}, {2, true, 0x100, true}}, "12"},
		{"long event in segments", []pkt{{7, false, 100, true}, {7, false, 100 + 0xFFFF, false}, {7, true, 100 + 2*0xFFFF, false}}, "7"},
		{"long event ended, next press", []pkt{{7, true, 100, true}, {7, false, 100 + 0xFFFF, false}}, "77"},
		{"marker starts a new press", []pkt{{7, false, 100, true}, {7, false, 100 + 0xFFFF, true}}, "77"},
		{"all keys", []pkt{{9, true, 1, true}, {10, true, 2, true}, {11, true, 3, true}, {12, true, 4, true}, {15, true, 5, true}}, "9*#AD"},
		{"flash and tones are no keys", []pkt{{16, true, 1, true}, {66, true, 2, true}, {255, true, 3, true}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in []telephonyevent.Packet
			for _, p := range tt.in {
				q := telephonyevent.Packet{Timestamp: p.timestamp, Marker: p.marker}
				q.Payload[0] = p.code
				if p.end {
					q.Payload[1] = 0x80
				}
				in = append(in, q)
			}
			if got := receive(in); got != tt.want {
				t.Errorf("digits = %q, want %q", got, tt.want)
			}
		})
	}
}

// A digit is lost only when all of its packets are; doubled and swapped
// packets change nothing.
func TestDigitsSurviveABadNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringOfN(rapid.SampledFrom([]rune("0123456789*#ABCD")), 1, 30, -1).Draw(t, "digits")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var line []telephonyevent.Packet
		want := ""
		for i, d := range digits {
			event := packets(string(d), 5*tick, 3*tick)
			kept := 0
			for _, p := range event {
				p.Timestamp += uint32(i) * 8000
				if rnd.Float64() < 0.2 {
					continue
				}
				kept++
				line = append(line, p)
				if rnd.Float64() < 0.2 {
					line = append(line, p)
				}
			}
			if kept > 0 {
				want += string(d)
			}
		}
		// Neighbours swap within an event and across the border of two.
		for i := 1; i < len(line); i++ {
			same := line[i].Timestamp == line[i-1].Timestamp
			if same && rnd.Float64() < 0.2 {
				line[i], line[i-1] = line[i-1], line[i]
			}
		}
		if got := receive(line); got != want {
			t.Fatalf("digits = %q, want %q", got, want)
		}
	})
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte{1, 0x8A, 0, 160}, uint32(1), true)
	f.Add([]byte{16, 0, 0}, uint32(0xFFFFFFFF), false)
	f.Add([]byte{}, uint32(0), false)
	f.Fuzz(func(t *testing.T, payload []byte, timestamp uint32, marker bool) {
		var r telephonyevent.Receiver
		key, ok := r.Packet(payload, timestamp, marker)
		if ok && !telephonyevent.IsKey(key) {
			t.Fatalf("%q is no key", key)
		}
		if _, again := r.Packet(payload, timestamp, marker); again {
			t.Fatal("the same packet counted twice")
		}
	})
}
