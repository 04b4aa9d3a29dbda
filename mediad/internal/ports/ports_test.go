package ports_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/mediad/internal/ports"
)

func TestParseRange(t *testing.T) {
	for s, ok := range map[string]bool{
		"20000-29999": true, "20000-20001": true, "20001-20003": true, " 2000 - 3000 ": true,
		"": false, "20000": false, "20000-": false, "a-b": false, "20001-20002": false, "30000-20000": false, "0-100": false, "60000-70000": false,
	} {
		if _, err := ports.ParseRange(s); (err == nil) != ok {
			t.Errorf("ParseRange(%q): %v", s, err)
		}
	}
}

func TestOddEdgesAreLeftOut(t *testing.T) {
	now := time.Now()
	a := ports.New(ports.Range{First: 20001, Last: 20006}, 0, 0, func() time.Time { return now })
	if a.Pairs() != 2 {
		t.Fatalf("%d pairs, want 20002/3 and 20004/5", a.Pairs())
	}
	got := map[uint16]bool{}
	for range 2 {
		port, err := a.Lease(false)
		if err != nil {
			t.Fatal(err)
		}
		got[port] = true
	}
	if !got[20002] || !got[20004] {
		t.Errorf("leased %v", got)
	}
}

func TestReserveIsForEstablishedCalls(t *testing.T) {
	now := time.Now()
	a := ports.New(ports.Range{First: 20000, Last: 20019}, 3, time.Second, func() time.Time { return now })
	for i := range 7 {
		if _, err := a.Lease(false); err != nil {
			t.Fatalf("lease %d: %v", i, err)
		}
	}
	if _, err := a.Lease(false); !errors.Is(err, ports.ErrExhausted) {
		t.Fatalf("a new call got a reserved pair: %v", err)
	}
	for i := range 3 {
		if _, err := a.Lease(true); err != nil {
			t.Fatalf("reserved lease %d: %v", i, err)
		}
	}
	if _, err := a.Lease(true); !errors.Is(err, ports.ErrExhausted) {
		t.Fatalf("err = %v", err)
	}
}

// The allocator against a slow model: which pairs are out, and until when the
// others rest.
func TestAllocatorAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const quarantine = 5 * time.Second
		pairs := rapid.IntRange(1, 200).Draw(t, "pairs")
		now := time.Unix(0, 0)
		a := ports.New(ports.Range{First: 20000, Last: uint16(20000 + 2*pairs - 1)}, 0, quarantine, func() time.Time { return now })
		leased := map[uint16]bool{}
		resting := map[uint16]time.Time{}
		t.Repeat(map[string]func(*rapid.T){
			"lease": func(t *rapid.T) {
				port, err := a.Lease(true)
				if err != nil {
					if len(leased)+len(resting) < pairs {
						t.Fatalf("refused with %d leased and %d resting of %d", len(leased), len(resting), pairs)
					}
					return
				}
				if port%2 != 0 || leased[port] {
					t.Fatalf("leased %d again, or odd", port)
				}
				if until, ok := resting[port]; ok {
					t.Fatalf("%d rests until %v, now %v", port, until, now)
				}
				leased[port] = true
			},
			"release": func(t *rapid.T) {
				for port := range leased {
					delete(leased, port)
					resting[port] = now.Add(quarantine)
					a.Release(port)
					return
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
				for port, until := range resting {
					if !until.After(now) {
						delete(resting, port)
					}
				}
			},
			"": func(t *rapid.T) {
				if free := a.Free(); free != pairs-len(leased)-len(resting) {
					t.Fatalf("free = %d, want %d", free, pairs-len(leased)-len(resting))
				}
			},
		})
	})
}
