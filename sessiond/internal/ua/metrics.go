package ua

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	received    *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	rejected    *prometheus.CounterVec
	forwarded   *prometheus.CounterVec
	invites     *prometheus.CounterVec
	ackTimeouts prometheus.Counter
	// acceptErrors tells of exhausted descriptors.
	acceptErrors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, u *UA) (*metrics, error) {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callmesh", Subsystem: "sip", Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string, size func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callmesh", Subsystem: "sip", Name: name, Help: help}, func() float64 { return float64(size()) })
	}
	m := &metrics{
		received:  vec("requests_total", "SIP requests taken in, by method.", "method"),
		dropped:   vec("dropped_total", "SIP messages thrown away without an answer, by reason.", "reason"),
		rejected:  vec("rejected_total", "SIP requests that the user agent itself refused, by code.", "code"),
		forwarded: vec("forwarded_total", "SIP requests passed on to the instance that owns the session, by method.", "method"),
		invites:   vec("invites_total", "Initial INVITEs by the class of their final answer.", "class"),
		ackTimeouts: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callmesh", Subsystem: "sip", Name: "ack_timeouts_total",
			Help: "2xx answers that were never acknowledged."}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callmesh", Subsystem: "sip", Name: "accept_errors_total",
			Help: "Connections that could not be accepted, as when descriptors run out."}),
	}
	for _, c := range []prometheus.Collector{
		m.received, m.dropped, m.rejected, m.forwarded, m.invites, m.ackTimeouts, m.acceptErrors,
		gauge("server_transactions", "Server transactions, with those that only absorb retransmissions.", u.txns.size),
		gauge("dialogs", "Confirmed dialogs held.", u.legs.size),
		gauge("early_invites", "INVITEs bound to a leg and without final answer.", u.ringing.size),
		gauge("connections", "Open TCP and TLS connections.", u.wires.connections),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// methodLabel bounds the label: a stranger may invent methods.
func methodLabel(method string) string {
	switch method {
	case "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO":
		return method
	}
	return "other"
}

// codeLabel is a code of our own making.
func codeLabel(code int) string { return strconv.Itoa(code) }
