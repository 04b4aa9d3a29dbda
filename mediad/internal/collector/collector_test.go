package collector_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/mediad/internal/collector"
)

// model is the collector said slowly: strings, and a look at every millisecond.
type model struct {
	all     string // since the last flush
	ahead   string // typed, but used by no match
	active  bool
	rule    collector.Rule
	got     string
	last    int
	played  int // -1 before
	outcome collector.Outcome
	key     byte
	matched string
}

func tail(s string) string { return s[max(0, len(s)-collector.BufferSize):] }

func (m *model) start(now int, r collector.Rule) {
	if m.active && m.outcome == collector.None {
		m.ahead = m.got + m.ahead
	}
	if r.Flush {
		m.all, m.ahead = "", ""
	}
	typed := m.ahead
	*m = model{all: m.all, active: true, rule: r, played: -1}
	for i := range len(typed) {
		m.enter(now, typed[i])
	}
}

func (m *model) stop() {
	if m.active && m.outcome == collector.None {
		m.ahead = m.got + m.ahead
	}
	m.active = false
}

func (m *model) digit(now int, key byte) {
	m.all = tail(m.all + string(key))
	m.enter(now, key)
}

func (m *model) enter(now int, key byte) {
	switch {
	case !m.active || m.outcome != collector.None:
		m.ahead = tail(m.ahead + string(key))
	case strings.Contains(m.rule.Termination, string(key)):
		m.outcome, m.key, m.matched = collector.TerminationKey, key, m.got
	default:
		m.got += string(key)
		m.last = now
		if len(m.got) == m.rule.MaxDigits || len(m.got) == collector.BufferSize {
			m.outcome, m.matched = collector.MaxDigits, m.got
		}
	}
}

// pass looks at the timers of one millisecond.
func (m *model) pass(now int) {
	if !m.active || m.outcome != collector.None {
		return
	}
	ms := func(d time.Duration) int { return int(d / time.Millisecond) }
	if m.got != "" {
		if m.rule.Between >= 0 && now-m.last >= ms(m.rule.Between) {
			m.outcome, m.matched = collector.BetweenTimeout, m.got
		}
	} else if m.played >= 0 && m.rule.First >= 0 && now-m.played >= ms(m.rule.First) {
		m.outcome = collector.FirstTimeout
	}
}

func TestCollectorAgainstModel(t *testing.T) {
	timeout := rapid.Custom(func(t *rapid.T) time.Duration {
		if rapid.Bool().Draw(t, "never") {
			return collector.Never
		}
		return time.Duration(rapid.IntRange(0, 300).Draw(t, "ms")) * time.Millisecond
	})
	rule := rapid.Custom(func(t *rapid.T) collector.Rule {
		return collector.Rule{
			Flush:       rapid.IntRange(0, 3).Draw(t, "flush") == 0,
			MaxDigits:   rapid.IntRange(0, 5).Draw(t, "max"),
			First:       timeout.Draw(t, "first"),
			Between:     timeout.Draw(t, "between"),
			Termination: rapid.SampledFrom([]string{"", "#", "*#"}).Draw(t, "termination"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		var (
			c   collector.Collector
			m   model
			now int
		)
		at := func() time.Duration { return time.Duration(now) * time.Millisecond }
		// Time passes for the model by the millisecond, and for the collector in
		// jumps: it must not matter when it is looked at.
		wait := func(ms int) {
			for range ms {
				now++
				m.pass(now)
			}
		}
		m.played = -1
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) { wait(rapid.IntRange(1, 250).Draw(t, "ms")) },
			"digit": func(t *rapid.T) {
				wait(rapid.IntRange(0, 40).Draw(t, "ms"))
				key := rapid.SampledFrom([]byte("123*#")).Draw(t, "key")
				m.pass(now)
				m.digit(now, key)
				c.Digit(at(), key)
			},
			"many digits": func(t *rapid.T) {
				for range rapid.IntRange(1, 150).Draw(t, "n") {
					m.pass(now)
					m.digit(now, '5')
					c.Digit(at(), '5')
				}
			},
			"start": func(t *rapid.T) {
				r := rule.Draw(t, "rule")
				m.pass(now)
				m.start(now, r)
				c.Check(at())
				c.Start(at(), r)
			},
			"played out": func(*rapid.T) {
				m.pass(now)
				m.played = now
				c.PlayedOut(at())
			},
			"stop": func(*rapid.T) {
				m.stop()
				c.Check(at())
				c.Stop()
			},
			"": func(t *rapid.T) {
				m.pass(now)
				if got := string(c.Buffer()); got != m.all {
					t.Fatalf("buffer %q, want %q", got, m.all)
				}
				if !m.active {
					return
				}
				if got := c.Check(at()); got != m.outcome {
					t.Fatalf("outcome %d, want %d", got, m.outcome)
				}
				want := m.got
				if m.outcome != collector.None {
					want = m.matched
				}
				if got := string(c.Digits()); got != want || c.Key() != m.key {
					t.Fatalf("digits %q key %q, want %q %q", got, c.Key(), want, m.key)
				}
			},
		})
	})
}

func TestTimeoutBeforeADigitThatComesLate(t *testing.T) {
	var c collector.Collector
	c.Start(0, collector.Rule{First: time.Second, Between: time.Second})
	c.Digit(0, '1')
	// Nobody has looked at the timer since; the digit must not revive the rule.
	c.Digit(2*time.Second, '2')
	if c.Check(2*time.Second) != collector.BetweenTimeout || string(c.Digits()) != "1" {
		t.Errorf("outcome %v, digits %q", c.Check(2*time.Second), c.Digits())
	}
}

func BenchmarkDigit(b *testing.B) {
	var c collector.Collector
	c.Start(0, collector.Rule{First: collector.Never, Between: collector.Never})
	b.ReportAllocs()
	for b.Loop() {
		c.Digit(0, '1')
	}
}
