package dialogue

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commands  *prometheus.CounterVec
	takeovers prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Service) metrics {
	m := metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_ivrd_commands_total",
			Help: "getIvrCommand questions, by result (answered, empty, failed, invalid, revoked).",
		}, []string{"result"}),
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmesh_ivrd_takeovers_total",
			Help: "Dialogues taken over from instances that died or drained.",
		}),
	}
	active := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmesh_ivrd_dialogues",
		Help: "Dialogues that this instance runs.",
	}, func() float64 { return float64(s.active()) })
	r.MustRegister(m.commands, m.takeovers, active)
	return m
}
