package rtcp_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/rtcp"
)

func TestCompoundRoundTrip(t *testing.T) {
	sender := rtcp.Sender{NTP: 0x0102030405060708, Timestamp: 9, Packets: 10, Octets: 11}
	report := rtcp.Report{SSRC: 77, FractionLost: 12, CumulativeLost: -3, HighestSequence: 1<<16 | 5, Jitter: 42, LastSR: 6, DelaySinceLastSR: 7}
	for name, in := range map[string]rtcp.Compound{
		"empty receiver report": {SSRC: 5, CNAME: "a"},
		"receiver report":       {SSRC: 5, HasReport: true, Report: report, CNAME: "ab"},
		"sender report":         {SSRC: 5, HasSender: true, Sender: sender, CNAME: "abc"},
		"both, with bye":        {SSRC: 5, HasSender: true, Sender: sender, HasReport: true, Report: report, CNAME: "abcd", Bye: true},
	} {
		t.Run(name, func(t *testing.T) {
			data := in.Append(nil)
			if len(data)%4 != 0 {
				t.Errorf("length %d is not a multiple of 4", len(data))
			}
			var out rtcp.Compound
			if err := rtcp.Parse(data, 77, &out); err != nil {
				t.Fatal(err)
			}
			in.CNAME = "" // nobody needs the far end's
			if out != in {
				t.Errorf("got %+v\nwant %+v", out, in)
			}
			if in.HasReport {
				if err := rtcp.Parse(data, 78, &out); err != nil || out.HasReport {
					t.Errorf("a report about another stream was taken for ours (err %v)", err)
				}
			}
			for cut := 1; cut < len(data); cut++ {
				if cut%4 != 0 && !errors.Is(rtcp.Parse(data[:cut], 77, &out), rtcp.ErrMalformed) {
					t.Errorf("cut to %d bytes: accepted", cut)
				}
			}
		})
	}
}

func TestParseRefusesWhatIsNoCompound(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty":               {},
		"version 1":           {0x40, 201, 0, 1, 0, 0, 0, 5},
		"length beyond":       {0x80, 201, 0, 9, 0, 0, 0, 5},
		"starts with SDES":    {0x80, 202, 0, 0},
		"report without body": {0x81, 201, 0, 1, 0, 0, 0, 5},
		"SR without sender":   {0x80, 200, 0, 1, 0, 0, 0, 5},
		"padding too long":    {0xA0, 201, 0, 1, 0, 0, 0, 5},
		"bye without SSRC":    {0x80, 201, 0, 1, 0, 0, 0, 5, 0x81, 203, 0, 0},
	} {
		var c rtcp.Compound
		if err := rtcp.Parse(data, 1, &c); !errors.Is(err, rtcp.ErrMalformed) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	sent := rtcp.NTP(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	arrived := rtcp.NTP(time.Date(2026, 1, 2, 3, 4, 5, 350e6, time.UTC))
	r := rtcp.Report{LastSR: rtcp.Middle(sent), DelaySinceLastSR: 65536 / 4}
	if got, ok := r.RoundTrip(arrived); !ok || got < 99*time.Millisecond || got > 101*time.Millisecond {
		t.Errorf("round trip = %v, %v; want 100 ms", got, ok)
	}
	if _, ok := r.RoundTrip(sent); ok {
		t.Error("a negative round trip was accepted")
	}
	if _, ok := (&rtcp.Report{}).RoundTrip(arrived); ok {
		t.Error("a round trip without LSR")
	}
}

func TestReceptionCountsLoss(t *testing.T) {
	var r rtcp.Reception
	// 65530 … over the wrap, every fifth missing.
	for i := range 100 {
		if i%5 == 4 {
			continue
		}
		r.Packet(uint16(65530+i), uint32(i*160), uint32(i*160), true)
	}
	if r.Received() != 80 || r.Lost() != 19 { // the last one is not yet known to be lost
		t.Errorf("received %d lost %d, want 80 and 19", r.Received(), r.Lost())
	}
	rep, ok := r.Report(9, 0)
	if !ok || rep.CumulativeLost != 19 || rep.FractionLost != 19*256/99 || rep.HighestSequence != 65530+98 {
		t.Errorf("report = %+v", rep)
	}
	if rep, _ = r.Report(9, 0); rep.FractionLost != 0 {
		t.Errorf("fraction of an empty interval = %d", rep.FractionLost)
	}
	if r.Jitter() != 0 {
		t.Errorf("jitter of a perfect stream = %d", r.Jitter())
	}
	r.Restart()
	r.Packet(7, 0, 0, true)
	if r.Received() != 81 || r.Lost() != 19 {
		t.Errorf("after a new source: received %d lost %d", r.Received(), r.Lost())
	}
}

func TestReceptionSurvivesReorderDuplicatesAndJumps(t *testing.T) {
	var r rtcp.Reception
	for _, s := range []uint16{10, 12, 11, 11, 13} {
		if !r.Packet(s, 0, 0, false) {
			t.Errorf("packet %d refused", s)
		}
	}
	if r.Lost() != 0 {
		t.Errorf("lost = %d", r.Lost())
	}
	if r.Packet(30000, 0, 0, false) {
		t.Error("a single jump was accepted")
	}
	if !r.Packet(30001, 0, 0, false) {
		t.Error("the second packet after a jump was refused")
	}
	if rep, _ := r.Report(1, 0); rep.HighestSequence != 30001 {
		t.Errorf("highest = %d", rep.HighestSequence)
	}
}

func TestJitterFollowsA8(t *testing.T) {
	// Alternating 0 and 5 ms of delay: |D| = 40 units each time, so J tends to 40.
	var r rtcp.Reception
	for i := range 500 {
		r.Packet(uint16(i), uint32(i*160), uint32(i*160+i%2*40), true)
	}
	if j := r.Jitter(); j < 38 || j > 41 {
		t.Errorf("jitter = %d, want about 40", j)
	}
}

func TestDelaySinceLastSR(t *testing.T) {
	var r rtcp.Reception
	r.Packet(1, 0, 0, true)
	r.SenderReport(0x0000AAAABBBB0000, time.Second)
	rep, _ := r.Report(1, 3*time.Second)
	if rep.LastSR != 0xAAAABBBB || rep.DelaySinceLastSR != 2*65536 {
		t.Errorf("report = %+v", rep)
	}
}

func TestMOS(t *testing.T) {
	tests := []struct {
		q    rtcp.Quality
		want float64
	}{
		{rtcp.Quality{}, 4.40},
		{rtcp.Quality{LossFraction: 0.02, RoundTrip: 100 * time.Millisecond}, 4.2},
		{rtcp.Quality{LossFraction: 0.2}, 2.6},
		{rtcp.Quality{LossFraction: 1, RoundTrip: 3 * time.Second}, 1},
	}
	last := 5.0
	for _, tt := range tests {
		got := tt.q.MOS()
		if math.Abs(got-tt.want) > 0.1 || got >= last {
			t.Errorf("MOS(%+v) = %.2f, want about %.2f and below %.2f", tt.q, got, tt.want, last)
		}
		last = got
	}
}

func FuzzParse(f *testing.F) {
	c := rtcp.Compound{SSRC: 1, HasSender: true, HasReport: true, Report: rtcp.Report{SSRC: 2}, CNAME: "x", Bye: true}
	f.Add(c.Append(nil))
	f.Add([]byte{0x80, 201, 0, 1, 0, 0, 0, 5})
	f.Add([]byte{0xA1, 200, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var in, out rtcp.Compound
		if rtcp.Parse(data, 2, &in) != nil {
			return
		}
		if !in.HasReport && !in.HasSender && in.SSRC == 0 {
			return
		}
		if err := rtcp.Parse(in.Append(nil), 2, &out); err != nil {
			t.Fatalf("own packet does not parse: %v", err)
		}
		if in != out {
			t.Fatalf("%+v became %+v", in, out)
		}
	})
}
