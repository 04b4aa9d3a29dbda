package cycle

import (
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
)

// Clip names audio by the SHA-256 of its samples, as mediad does.
type Clip struct{ ID string }

// Step is what a leg is told to do for one command.
type Step struct {
	ID       string
	Playlist []Clip
	Digits   *command.DTMF
	BargeIn  command.BargeIn
	// After is the silence after the playlist; nil with a digit rule means that
	// the rule alone ends the step.
	After      *time.Duration
	Background *Background
	// Last ends the step with its playlist.
	Last bool
}

// Background is audio between playlists; without a clip it stops.
type Background struct {
	Clip        *Clip
	RepeatPause time.Duration
}

// step turns the command into what the leg does. Each wait is a step as well.
func (s State) step(ev Resolved) Step {
	cmd := *s.Command
	step := Step{
		ID: s.StepID(), Playlist: ev.Clips, Digits: cmd.DTMF, BargeIn: cmd.BargeIn, After: cmd.After, Last: cmd.Hangup,
	}
	switch {
	case cmd.Hangup:
		// hangup also ends the background (contract §1.8).
		step.Background = &Background{}
	case cmd.Background != nil && cmd.Background.Stop:
		step.Background = &Background{}
	case cmd.Background != nil && ev.Background != nil:
		step.Background = &Background{Clip: ev.Background, RepeatPause: cmd.Background.RepeatPause}
	}
	if cmd.DTMF == nil && !cmd.Hangup {
		wait := time.Duration(0)
		if cmd.After != nil {
			wait = *cmd.After
		}
		if len(ev.Clips) == 0 && wait == 0 {
			wait = idle
		}
		step.After = &wait
	}
	if s.Hurried >= patience && !cmd.Hangup {
		wait := idle
		if step.After != nil {
			wait = max(idle, *step.After)
		}
		step.After = &wait
		step.Digits = nil
	}
	return step
}
