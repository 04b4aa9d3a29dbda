package shard

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// Metrics takes the shard's figures. It is called on the loop and must not
// block or allocate.
type Metrics interface {
	// Lateness of a phase that has run.
	Lateness(time.Duration)
	// Skipped periods of all legs.
	Skipped(periods int)
	// Count adds the difference of two readings of the counters.
	Count(before, now *leg.Counters)
}
