package control

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// metrics of the sessions; labels are values of fixed sets.
type metrics struct {
	live     prometheus.Gauge
	refused  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	answered prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		live: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callmesh_sessions_live", Help: "Sessions that this instance owns.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_calls_refused_total", Help: "INVITEs refused before they became a session, by why.",
		}, []string{"why"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_sessions_ended_total", Help: "Ended sessions, by outcome.",
		}, []string{"outcome"}),
		answered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callmesh_answer_seconds", Help: "Time from INVITE to its 2xx.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
	}
	return m, errors.Join(reg.Register(m.live), reg.Register(m.refused), reg.Register(m.ended), reg.Register(m.answered))
}

func (m *metrics) observe(before, after call.Session) {
	if before.State != call.Ended && after.State == call.Ended {
		m.ended.WithLabelValues(string(after.Outcome)).Inc()
	}
	if before.Stage != call.Accepted && after.Stage == call.Accepted {
		m.answered.Observe(after.Answered.Sub(after.Started).Round(time.Microsecond).Seconds())
	}
}
