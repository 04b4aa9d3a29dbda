package ivrd_test

import (
	"log/slog"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/redistest"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// BenchmarkCommand is one turn of the cycle: the answer to a question, a cached
// prompt, the step, its digits, the next question. The peers' share is in it, as
// they live in the same process, but for a real Redis.
func BenchmarkCommand(b *testing.B) {
	for name, store := range map[string]func(testing.TB) redis.UniversalClient{
		"miniredis": func(t testing.TB) redis.UniversalClient { return redistest.Mini(t) },
		"redis":     func(t testing.TB) redis.UniversalClient { return redistest.Start(t).Client() },
	} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, store(b))
			h.log = slog.New(slog.DiscardHandler)
			h.recordingd.put(domain, "menu.wav", wav(440, 8000))
			c := h.begin(h.ivrd("a"))
			before := cpu(b)
			for b.Loop() {
				h.sessiond.answer(b, `{"phrases":[{"format":"file","fileName":"menu.wav"}],"dtmf":{"maxDigits":1},"bargeIn":"all"}`)
				step := h.mediad.next(b)
				h.mediad.finish(b, c.leg, &mediapb.StepResult{
					StepId: step.GetStepId(), Reason: mediapb.StepResult_REASON_MAX_DIGITS, Digits: "1", Buffer: "1",
				})
				h.mediad.mu.Lock()
				if events := h.mediad.legs[c.leg].events; len(events) > 64 {
					h.mediad.legs[c.leg].events = events[len(events)-64:]
				}
				h.mediad.mu.Unlock()
			}
			b.ReportMetric((cpu(b)-before)*1e6/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpu is the processor time of this process in seconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
