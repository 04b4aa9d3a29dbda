// Package collector gathers the digits of a dialogue: a buffer of all keys
// since the last flush, and the rule of the running step, which ends on a
// termination key, on enough digits, or on one of two timeouts. It is driven
// by the leg with explicit times and does no I/O.
package collector

import (
	"strings"
	"time"
)

// BufferSize bounds the digits kept. A rule without a limit of its own ends
// here; a buffer that overflows between steps forgets its oldest digits.
const BufferSize = 128

// Never is a timeout that does not fire.
const Never time.Duration = -1

// Rule says when collecting ends.
type Rule struct {
	// Flush empties the buffer first.
	Flush bool
	// MaxDigits of 0 means unlimited.
	MaxDigits int
	// First counts from the end of the playlist, Between from the last digit.
	First, Between time.Duration
	// Termination keys, any of which ends the input.
	Termination string
}

// Outcome says how collecting ended.
type Outcome uint8

// The outcomes. All but FirstTimeout and None are matches (contract §1.8.4).
const (
	None Outcome = iota
	TerminationKey
	MaxDigits
	FirstTimeout
	BetweenTimeout
)

// Match tells whether the caller has entered something, which barge-in is about.
func (o Outcome) Match() bool { return o == TerminationKey || o == MaxDigits || o == BetweenTimeout }

// Collector holds one leg's digits. The zero value is ready.
type Collector struct {
	buffer [BufferSize]byte
	length int
	// taken digits at the front of the buffer were part of an earlier match;
	// those behind were typed ahead and count first for the next rule.
	taken int

	active  bool
	rule    Rule
	count   int // digits collected by the running rule, from taken on
	last    time.Duration
	played  bool
	silence time.Duration // when the playlist ended
	outcome Outcome
	key     byte
	matched [BufferSize]byte
	size    int
}

// Start begins to collect by rule. Digits typed ahead count as if pressed now.
func (c *Collector) Start(now time.Duration, rule Rule) {
	if rule.Flush {
		c.length, c.taken = 0, 0
	}
	c.active, c.rule, c.count, c.played = true, rule, 0, false
	c.outcome, c.key, c.size = None, 0, 0
	for c.outcome == None && c.taken+c.count < c.length {
		c.take(now, c.buffer[c.taken+c.count])
	}
}

// Stop ends the rule; digits that no match used stay typed ahead.
func (c *Collector) Stop() { c.active = false }

// PlayedOut tells that the playlist has ended.
func (c *Collector) PlayedOut(now time.Duration) {
	c.Check(now)
	c.played, c.silence = true, now
}

// Digit enters a key. A timeout that was due before it comes first, whether
// or not a tick has looked at it.
func (c *Collector) Digit(now time.Duration, key byte) {
	c.Check(now)
	c.store(key)
	if c.active && c.outcome == None {
		c.take(now, key)
	}
}

// Check returns how collecting ended, None while it goes on.
func (c *Collector) Check(now time.Duration) Outcome {
	if !c.active || c.outcome != None {
		return c.outcome
	}
	switch {
	case c.count > 0 && c.rule.Between >= 0 && now >= c.last+c.rule.Between:
		c.end(BetweenTimeout, 0)
	case c.count == 0 && c.played && c.rule.First >= 0 && now >= c.silence+c.rule.First:
		c.end(FirstTimeout, 0)
	}
	return c.outcome
}

// Digits collected, without the termination key. Valid until the next Start.
func (c *Collector) Digits() []byte {
	if c.outcome != None {
		return c.matched[:c.size]
	}
	if !c.active {
		return nil
	}
	return c.buffer[c.taken : c.taken+c.count]
}

// Key that ended the input, 0 if none did.
func (c *Collector) Key() byte { return c.key }

// Buffer is all digits since the last flush.
func (c *Collector) Buffer() []byte { return c.buffer[:c.length] }

// store appends to the buffer, which forgets its oldest digit when full.
func (c *Collector) store(key byte) {
	if c.length == BufferSize {
		copy(c.buffer[:], c.buffer[1:])
		c.length--
		c.taken = max(c.taken-1, 0)
	}
	c.buffer[c.length] = key
	c.length++
}

// take counts a stored digit towards the rule.
func (c *Collector) take(now time.Duration, key byte) {
	c.last = now
	if strings.IndexByte(c.rule.Termination, key) >= 0 {
		c.end(TerminationKey, key)
		return
	}
	c.count++
	if c.count == c.rule.MaxDigits || c.count == BufferSize {
		c.end(MaxDigits, 0)
	}
}

// end fixes the outcome and marks what it used up.
func (c *Collector) end(o Outcome, key byte) {
	c.outcome, c.key = o, key
	c.size = copy(c.matched[:], c.buffer[c.taken:c.taken+c.count])
	c.taken += c.count
	if key != 0 {
		c.taken++
	}
}
