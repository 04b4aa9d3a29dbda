package shard

import (
	"fmt"

	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// Drive fills a shard that no loop serves with n legs.
func Drive(s *Shard, n int, config func(string) leg.Config, d leg.Description, each func(*leg.Leg)) {
	for i := range n {
		l, err := s.add(0, nil, config(fmt.Sprint(i)), d)
		if err != nil {
			panic(err)
		}
		each(l)
	}
	s.step = int64(s.now()/phaseStep) + 1
}

// Turn runs one round of the loop.
func Turn(s *Shard) { s.turn(nil) }
