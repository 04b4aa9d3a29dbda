package leg_test

import (
	"errors"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/leg"
)

func rule(max int) *collector.Rule {
	return &collector.Rule{MaxDigits: max, First: time.Second, Between: 500 * time.Millisecond, Termination: "#"}
}

// heard runs ticks until the step's result and returns the values played.
func (r *rig) heard(limit int) (values []int) {
	r.t.Helper()
	before := len(r.results())
	for range limit {
		s, ok := r.tick()
		if len(r.results()) > before {
			return values
		}
		if !ok {
			r.t.Fatal("a tick of a running step sent nothing")
		}
		values = append(values, r.value(s.Payload))
	}
	return values
}

func TestPlaylistThenDone(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 3), r.clip(3000, 2)}, After: collector.Never})
	values := r.heard(20)
	want := []int{1000, 1000, 1000, 3000, 3000}
	if len(values) != len(want) {
		t.Fatalf("played %v", values)
	}
	for i := range want {
		if !near(values[i], want[i]) {
			t.Errorf("frame %d = %d, want %d", i, values[i], want[i])
		}
	}
	e := r.results()[0]
	if e.Reason != leg.Done || !e.PlayedAll || e.ClipIndex != 2 || e.Step != "s" {
		t.Errorf("result = %+v", e)
	}
}

func TestAfterCountsFromTheEndOfThePlaylist(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 5)}, After: 200 * time.Millisecond})
	if n := len(r.heard(100)); n != 5+10 {
		t.Errorf("%d packets before the result, want 5 of audio and 10 of silence", n)
	}
}

func TestBargeIn(t *testing.T) {
	tests := []struct {
		name    string
		bargeIn leg.BargeIn
		want    int // packets until the result; the key comes after 3
		clip    int
		at      time.Duration
		all     bool
	}{
		{"none plays to the end", leg.BargeInNone, 15, 2, 0, true},
		{"current goes on with the next", leg.BargeInCurrent, 3 + 5, 0, 3 * leg.Tick, false},
		{"all skips the rest", leg.BargeInAll, 3, 0, 3 * leg.Tick, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.leg.Run(r.now, leg.Step{
				ID: "s", Playlist: []*clip.Clip{r.clip(1000, 10), r.clip(3000, 5)}, After: collector.Never,
				BargeIn: tt.bargeIn, Rule: rule(1),
			})
			r.ticks(3)
			r.press("7")
			n := 3 + len(r.heard(100))
			e := r.results()[0]
			if n != tt.want || e.Reason != leg.MaxDigits || e.Digits.String() != "7" {
				t.Errorf("%d packets, want %d; result %v %q", n, tt.want, e.Reason, e.Digits.String())
			}
			if e.ClipIndex != tt.clip || e.ClipPosition != tt.at || e.PlayedAll != tt.all {
				t.Errorf("stopped at clip %d, %v, all %v", e.ClipIndex, e.ClipPosition, e.PlayedAll)
			}
		})
	}
}

func TestADigitThatIsNoMatchDoesNotBargeIn(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 20)}, After: collector.Never, BargeIn: leg.BargeInAll, Rule: rule(4)})
	r.ticks(2)
	r.press("1")
	r.ticks(5)
	if len(r.results()) != 0 {
		t.Fatal("a single digit of four ended the step")
	}
	r.press("#")
	r.tick()
	if e := r.results()[0]; e.Reason != leg.TerminationKey || e.Digits.String() != "1" || e.TerminationKey != '#' {
		t.Errorf("result = %+v", e)
	}
}

func TestBetweenTimeoutDuringPlayIsAMatch(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 100)}, After: collector.Never, BargeIn: leg.BargeInAll, Rule: rule(4)})
	r.press("1")
	if n := len(r.heard(100)); n != 24 {
		t.Errorf("%d packets, want 24 before 500 ms", n)
	}
	if e := r.results()[0]; e.Reason != leg.BetweenTimeout || e.PlayedAll {
		t.Errorf("result = %v", e.Reason)
	}
}

func TestFirstTimeoutCountsFromTheEndOfThePlaylist(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 10)}, After: collector.Never, Rule: rule(4)})
	if n := len(r.heard(200)); n != 10+50 {
		t.Errorf("%d packets, want 10 and one second", n)
	}
	if e := r.results()[0]; e.Reason != leg.FirstTimeout {
		t.Errorf("result = %v", e.Reason)
	}
}

func TestDigitsAndAfterWhicheverIsFirst(t *testing.T) {
	for after, want := range map[time.Duration]leg.Reason{300 * time.Millisecond: leg.Done, 3 * time.Second: leg.FirstTimeout} {
		r := newRig(t, nil)
		r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 10)}, After: after, Rule: rule(4)})
		r.heard(300)
		if e := r.results()[0]; e.Reason != want {
			t.Errorf("after %v: result = %v, want %v", after, e.Reason, want)
		}
	}
}

func TestLastEndsWithThePlaylist(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 4)}, After: time.Hour, Rule: rule(4), Last: true})
	if n := len(r.heard(100)); n != 4 {
		t.Errorf("%d packets", n)
	}
	if e := r.results()[0]; e.Reason != leg.Done {
		t.Errorf("result = %v", e.Reason)
	}
}

func TestDigitsTypedAheadCountFirst(t *testing.T) {
	r := newRig(t, nil)
	r.press("12#34")
	r.leg.Run(r.now, leg.Step{ID: "a", After: collector.Never, Rule: rule(9)})
	r.tick()
	r.leg.Run(r.now, leg.Step{ID: "b", After: collector.Never, Rule: rule(2)})
	r.tick()
	flush := rule(2)
	flush.Flush = true
	r.press("5")
	r.leg.Run(r.now, leg.Step{ID: "c", After: collector.Never, Rule: flush})
	r.tick()
	results := r.results()
	if len(results) != 2 || results[0].Digits.String() != "12" || results[1].Digits.String() != "34" || results[1].Buffer.String() != "12#34" {
		t.Fatalf("results = %+v", results)
	}
	if !r.leg.Stop("c") {
		t.Fatal("the flushed step ended by itself")
	}
	if e := r.results()[2]; e.Digits.String() != "" || e.Buffer.String() != "" {
		t.Errorf("after the flush: %q of %q", e.Digits.String(), e.Buffer.String())
	}
}

func TestExactlyOneResultForEachStep(t *testing.T) {
	r := newRig(t, nil)
	run := func(id string) {
		r.leg.Run(r.now, leg.Step{ID: id, Playlist: []*clip.Clip{r.clip(1000, 100)}, After: collector.Never})
		r.ticks(2)
	}
	run("a")
	run("a") // repeated: goes on
	run("b")
	r.leg.Stop("a") // not running any more
	r.leg.Stop("")
	run("b") // repeated after its end
	run("c")
	if err := r.leg.SetGrant(2); err != nil {
		t.Fatal(err)
	}
	run("d")
	r.leg.Close(r.now, r.out)
	want := []struct {
		step   string
		reason leg.Reason
	}{{"a", leg.Interrupted}, {"b", leg.Interrupted}, {"c", leg.Revoked}, {"d", leg.Interrupted}}
	got := r.results()
	if len(got) != len(want) {
		t.Fatalf("%d results: %+v", len(got), got)
	}
	for i, w := range want {
		if got[i].Step != w.step || got[i].Reason != w.reason {
			t.Errorf("result %d = %s %v, want %s %v", i, got[i].Step, got[i].Reason, w.step, w.reason)
		}
	}
}

func TestGrants(t *testing.T) {
	r := newRig(t, nil)
	r.leg.Run(r.now, leg.Step{ID: "s", Playlist: []*clip.Clip{r.clip(1000, 100)}, After: collector.Never, Background: r.clip(2000, 5)})
	r.ticks(3)
	if err := r.leg.SetGrant(0); !errors.Is(err, leg.ErrStaleGrant) {
		t.Errorf("an older grant: %v", err)
	}
	if err := r.leg.SetGrant(1); err != nil || len(r.results()) != 0 {
		t.Errorf("the same grant: %v, %d results", err, len(r.results()))
	}
	if err := r.leg.SetGrant(2); err != nil {
		t.Fatal(err)
	}
	if e := r.results()[0]; e.Reason != leg.Revoked || e.ClipPosition != 3*leg.Tick {
		t.Errorf("result = %+v", e)
	}
	if _, ok := r.tick(); ok {
		t.Error("something of the older grant is still played")
	}
}

func TestBackground(t *testing.T) {
	r := newRig(t, nil)
	music := r.clip(2000, 3)
	music.Hold()
	r.leg.Run(r.now, leg.Step{
		ID: "a", Playlist: []*clip.Clip{r.clip(1000, 2)}, After: 200 * time.Millisecond,
		Background: music, RepeatPause: 2 * leg.Tick,
	})
	values := r.heard(100)
	// The next command finds the background where it is.
	r.leg.Run(r.now, leg.Step{ID: "b", After: 100 * time.Millisecond, Background: music, RepeatPause: 2 * leg.Tick})
	values = append(values, r.value(mustSend(t, r).Payload))
	values = append(values, r.heard(100)...)
	line := ""
	for _, v := range values {
		line += map[bool]string{true: "m", false: map[bool]string{true: "p", false: "."}[near(v, 1000)]}[near(v, 2000)]
	}
	if want := "ppmmm..mmm..mmm.."; line[:12] != want[:12] {
		t.Errorf("heard %s, want %s", line, want)
	}
	r.leg.Run(r.now, leg.Step{ID: "c", After: 100 * time.Millisecond, StopBackground: true})
	for range 8 {
		if v := r.value(mustSend(t, r).Payload); !near(v, 0) {
			t.Fatalf("heard %d after the background's stop", v)
		}
	}
}

func mustSend(t *testing.T, r *rig) sent {
	t.Helper()
	s, ok := r.tick()
	if !ok {
		t.Fatal("nothing sent")
	}
	return s
}

func TestClipsAreLetGo(t *testing.T) {
	r := newRig(t, nil)
	c := r.clip(1000, 10)
	run := func(id string) {
		c.Hold()
		r.leg.Run(r.now, leg.Step{ID: id, Playlist: []*clip.Clip{c}, After: collector.Never})
	}
	run("a")
	r.ticks(20)
	run("b")
	r.ticks(2)
	run("b")
	run("c")
	r.leg.Stop("")
	run("d")
	c.Hold()
	r.leg.Run(r.now, leg.Step{ID: "e", Background: c, After: collector.Never})
	r.leg.Close(r.now, r.out)
	if n := c.Holds(); n != 1 {
		t.Errorf("%d holds, want only the test's", n)
	}
}
