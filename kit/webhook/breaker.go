package webhook

import (
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// BreakerOptions say when a host is no longer asked: after Failures timeouts or
// failed connections in a row, for Open; then one request tries it. Zero fields
// take the defaults, 5 and 10 s.
type BreakerOptions struct {
	Failures uint32
	Open     time.Duration
}

func (o *BreakerOptions) fill() {
	if o.Failures == 0 {
		o.Failures = 5
	}
	if o.Open <= 0 {
		o.Open = 10 * time.Second
	}
}

// maxHosts bounds the breakers kept. When there are more, those that were idle
// for longest are forgotten, which closes them.
const maxHosts = 4096

// breakers holds one circuit breaker per host. An answer of any status closes
// it: many customers may share a host, and one's error is not another's.
type breakers struct {
	o    BreakerOptions
	log  *slog.Logger
	mu   sync.Mutex
	host map[string]*breaker
}

type breaker struct {
	circuit *gobreaker.TwoStepCircuitBreaker[struct{}]
	used    time.Time
}

func newBreakers(o BreakerOptions, log *slog.Logger) *breakers {
	return &breakers{o: o, log: log, host: map[string]*breaker{}}
}

// allow asks the host's breaker for leave, and returns how to tell it the result.
func (b *breakers) allow(u *url.URL) (func(*Error), error) {
	done, err := b.get(u.Scheme + "://" + u.Host).Allow()
	if err != nil {
		return nil, err
	}
	return func(fail *Error) {
		if fail == nil {
			done(nil)
			return
		}
		done(fail)
	}, nil
}

// silent is true of failures in which the host did not answer; excluded of those
// that say nothing about the host.
func silent(err error) bool   { k := kindOf(err); return k == Timeout || k == Connect }
func excluded(err error) bool { k := kindOf(err); return k == Canceled || k == RefusedAddress }

func kindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

func (b *breakers) get(host string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if have := b.host[host]; have != nil {
		have.used = now
		return have.circuit
	}
	if len(b.host) >= maxHosts {
		b.forget()
	}
	made := &breaker{used: now, circuit: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         host,
		MaxRequests:  1,
		Timeout:      b.o.Open,
		IsSuccessful: func(err error) bool { return !silent(err) },
		IsExcluded:   excluded,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= b.o.Failures },
		OnStateChange: func(name string, from, to gobreaker.State) {
			b.log.Warn("callback host changed state", "host", name, "from", from.String(), "to", to.String())
		},
	})}
	b.host[host] = made
	return made.circuit
}

// forget drops the half that was idle for longest.
func (b *breakers) forget() {
	var oldest, newest time.Time
	for _, h := range b.host {
		if oldest.IsZero() || h.used.Before(oldest) {
			oldest = h.used
		}
		if h.used.After(newest) {
			newest = h.used
		}
	}
	middle := oldest.Add(newest.Sub(oldest) / 2)
	for name, h := range b.host {
		if !h.used.After(middle) {
			delete(b.host, name)
		}
	}
}
