package leg_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// Whatever is asked of a leg, in whatever order: each step that was started
// has exactly one result, in order; one stream goes on; clips are let go.
func TestTheLifeOfALeg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t, nil)
		clips := []*clip.Clip{r.clip(1000, 3), r.clip(2000, 7), r.clip(3000, 0)}
		before := make([]int, len(clips))
		for i, c := range clips {
			before[i] = c.Holds()
		}
		var (
			started []string
			grant   = uint64(1)
			last    sent
			heard   bool
		)
		draw := rapid.SampledFrom(clips)
		timeout := func(what string) time.Duration {
			return rapid.SampledFrom([]time.Duration{collector.Never, 0, 50 * time.Millisecond, 300 * time.Millisecond}).Draw(t, what)
		}
		t.Repeat(map[string]func(*rapid.T){
			"run": func(t *rapid.T) {
				s := leg.Step{ID: fmt.Sprint(len(started)), After: timeout("after"), BargeIn: leg.BargeIn(rapid.IntRange(0, 2).Draw(t, "barge-in"))}
				for range rapid.IntRange(0, 3).Draw(t, "clips") {
					c := draw.Draw(t, "clip")
					c.Hold()
					s.Playlist = append(s.Playlist, c)
				}
				if rapid.Bool().Draw(t, "collect") {
					s.Rule = &collector.Rule{
						Flush: rapid.Bool().Draw(t, "flush"), MaxDigits: rapid.IntRange(0, 3).Draw(t, "max"),
						First: timeout("first"), Between: timeout("between"), Termination: "#",
					}
				}
				switch rapid.IntRange(0, 4).Draw(t, "background") {
				case 0:
					s.StopBackground = true
				case 1:
					s.Background = draw.Draw(t, "background clip")
					s.Background.Hold()
				}
				started = append(started, s.ID)
				r.leg.Run(r.now, s)
			},
			"repeat": func(t *rapid.T) {
				if len(started) > 0 {
					r.leg.Run(r.now, leg.Step{ID: started[len(started)-1], After: 0})
				}
			},
			"stop": func(*rapid.T) { r.leg.Stop("") },
			"grant": func(t *rapid.T) {
				grant++
				if err := r.leg.SetGrant(grant); err != nil {
					t.Fatal(err)
				}
			},
			"stale grant": func(t *rapid.T) {
				if r.leg.SetGrant(grant-1) == nil {
					t.Fatal("accepted")
				}
			},
			"press":  func(t *rapid.T) { r.press(rapid.SampledFrom([]string{"1", "2", "#"}).Draw(t, "key")) },
			"inject": func(t *rapid.T) { r.leg.Inject(r.now, '3') },
			"send": func(*rapid.T) {
				_ = r.leg.SendKeys("1", 40*time.Millisecond, 40*time.Millisecond) // refused when the queue is full
			},
			"hold": func(t *rapid.T) {
				d := r.description()
				d.Direction = leg.Direction(rapid.IntRange(0, 3).Draw(t, "direction"))
				r.leg.Describe(r.now, d)
			},
			"ticks": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					s, ok := r.tick()
					if !ok {
						continue
					}
					if heard && (s.Sequence != last.Sequence+1 || s.SSRC != last.SSRC) {
						t.Fatalf("%+v after %+v", s.Packet, last.Packet)
					}
					last, heard = s, true
				}
			},
			"": func(t *rapid.T) {
				results := r.results()
				running := 0
				if r.leg.Running() != "" {
					running = 1
				}
				if len(results)+running != len(started) {
					t.Fatalf("%d steps started, %d results, %d running", len(started), len(results), running)
				}
				for i, e := range results {
					if e.Step != started[i] {
						t.Fatalf("result %d is of step %s", i, e.Step)
					}
				}
			},
		})
		r.out.Reset()
		r.leg.Close(r.now, r.out)
		if len(r.results()) != len(started) {
			t.Fatalf("%d steps, %d results after the end", len(started), len(r.results()))
		}
		for i, c := range clips {
			if c.Holds() != before[i] {
				t.Fatalf("clip %d: %d holds, %d before", i, c.Holds(), before[i])
			}
		}
	})
}
