// Package metrics holds mediad's Prometheus figures.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/mediad/internal/leg"
)

const namespace = "callmesh_mediad"

// Metrics is fed by the shards; its methods neither block nor allocate.
type Metrics struct {
	registerer prometheus.Registerer
	received   prometheus.Counter
	sent       prometheus.Counter
	digits     prometheus.Counter
	silenced   prometheus.Counter
	dropped    [leg.Drops]prometheus.Counter
	lateness   prometheus.Histogram
	skipped    prometheus.Counter
}

// New registers the figures.
func New(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		registerer: r,
		digits: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "digits_total", Help: "DTMF digits received.",
		}),
		silenced: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "silenced_legs_total",
			Help: "Legs that stopped sending because nothing ever came from where they sent to.",
		}),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "tick_lateness_seconds", Help: "How late a phase of ticks began.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1},
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "skipped_periods_total", Help: "Periods of 20 ms that a shard could not keep.",
		}),
	}
	packets := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "rtp_packets_total", Help: "RTP packets accepted and sent.",
	}, []string{"direction"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "dropped_packets_total", Help: "Packets dropped, by reason.",
	}, []string{"reason"})
	m.received, m.sent = packets.WithLabelValues("received"), packets.WithLabelValues("sent")
	for reason := range leg.Drops {
		m.dropped[reason] = dropped.WithLabelValues(reason.String())
	}
	r.MustRegister(packets, dropped, m.digits, m.silenced, m.lateness, m.skipped)
	return m
}

// Sources of the gauges.
type Sources struct {
	Legs, FreePorts func() int
	Clips           func() (bytes int64, clips int)
}

// Watch registers the gauges.
func (m *Metrics) Watch(s Sources) {
	gauge := func(name, help string, value func() float64) {
		m.registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value))
	}
	gauge("legs", "Legs up.", func() float64 { return float64(s.Legs()) })
	gauge("free_port_pairs", "RTP port pairs that could be leased now.", func() float64 { return float64(s.FreePorts()) })
	gauge("clip_bytes", "Memory of prompts.", func() float64 { bytes, _ := s.Clips(); return float64(bytes) })
}

// Lateness of a phase.
func (m *Metrics) Lateness(d time.Duration) { m.lateness.Observe(d.Seconds()) }

// Skipped periods.
func (m *Metrics) Skipped(n int) { m.skipped.Add(float64(n)) }

// Count adds the difference of two readings.
func (m *Metrics) Count(before, now *leg.Counters) {
	add(m.received, before.Received, now.Received)
	add(m.sent, before.Sent, now.Sent)
	add(m.digits, before.Digits, now.Digits)
	add(m.silenced, before.Silenced, now.Silenced)
	for i := range m.dropped {
		add(m.dropped[i], before.Dropped[i], now.Dropped[i])
	}
}

func add(c prometheus.Counter, before, now uint64) {
	if now != before {
		c.Add(float64(now - before))
	}
}
