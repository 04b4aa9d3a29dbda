package leg

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/collector"
)

// Events takes what a leg has to tell. Emit copies the event and never blocks.
type Events interface {
	Emit(*Event)
}

// Kind of an event.
type Kind uint8

// The kinds that a leg makes.
const (
	StepResult Kind = iota
	Digit
	RTPTimeout
	// Closed is the last event of a leg; the shard makes it.
	Closed
)

// Reason a step ended.
type Reason uint8

// The reasons of a step result.
const (
	Done Reason = iota
	TerminationKey
	MaxDigits
	FirstTimeout
	BetweenTimeout
	Interrupted
	Revoked
)

// Digits is text without allocation: events are made on the tick.
type Digits struct {
	keys   [collector.BufferSize]byte
	length int
}

func (d *Digits) set(keys []byte) { d.length = copy(d.keys[:], keys) }

func (d *Digits) String() string { return string(d.keys[:d.length]) }

// Event is a value, so that the shard can queue it without allocating.
type Event struct {
	// Of is the leg; it never changes and may be read by anyone.
	Of   *Identity
	Kind Kind
	// Key of a Digit.
	Key byte
	// Lost says why a Closed leg was not closed by its controller.
	Lost string
	// Silence of an RTPTimeout.
	Silence time.Duration

	// The rest is a StepResult's.
	Step           string
	Reason         Reason
	Digits, Buffer Digits
	TerminationKey byte
	// ClipIndex and ClipPosition tell where playing ended; the index is the
	// number of clips after the whole playlist.
	ClipIndex    int
	ClipPosition time.Duration
	PlayedAll    bool
}

// Drop is why a packet was dropped, a bounded metric label.
type Drop uint8

// The drops.
const (
	DropMalformed Drop = iota
	DropPayloadType
	DropDirection
	DropForeign
	DropSequence
	DropRTCP
	DropOverflow
	DropUnsent
	Drops // their number
)

func (d Drop) String() string {
	return [...]string{"malformed", "payload_type", "direction", "foreign_source", "sequence", "rtcp", "overflow", "unsent"}[d]
}

// Counters of all legs of a shard, plain because only the shard touches them.
type Counters struct {
	Received, Sent, Digits uint64
	// Silenced legs reached the bound of Config.Unlatched.
	Silenced uint64
	Dropped  [Drops]uint64
}
