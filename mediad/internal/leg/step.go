package leg

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/collector"
)

// BargeIn says what a match does to the playlist.
type BargeIn uint8

// The values of contract §1.8.
const (
	// BargeInNone plays the playlist to its end; the result follows at once.
	BargeInNone BargeIn = iota
	// BargeInCurrent stops the clip being played and goes on with the next.
	BargeInCurrent
	// BargeInAll skips everything left.
	BargeInAll
)

// Step is one command of a dialogue. Playlist and background clips are held by
// the caller; the leg takes the holds over.
type Step struct {
	ID       string
	Playlist []*clip.Clip
	// Rule is nil when digits go to the buffer only.
	Rule    *collector.Rule
	BargeIn BargeIn
	// After is collector.Never when the step does not end by time.
	After time.Duration
	// Background: SetBackground replaces, StopBackground ends it.
	Background     *clip.Clip
	RepeatPause    time.Duration
	StopBackground bool
	// Last ends the step with its playlist.
	Last bool
}

// step is the running one; no id means none.
type step struct {
	id        string
	collects  bool
	bargeIn   BargeIn
	after     time.Duration
	last      bool
	barged    bool
	playedOut bool
	ended     time.Duration // of the playlist
	position  position
}

// position is where a barge-in cut the playlist.
type position struct {
	index int
	at    time.Duration
}

// Run starts a step in place of the one that runs. A step that runs or has
// just ended is not started again: the request was repeated.
func (l *Leg) Run(now time.Duration, s Step) {
	if s.ID == l.step.id || s.ID == l.finished {
		s.release()
		return
	}
	l.finish(Interrupted)
	l.active = true
	l.player.Play(s.Playlist)
	switch {
	case s.StopBackground:
		l.player.StopBackground()
	case s.Background != nil:
		l.player.SetBackground(s.Background, s.RepeatPause)
	}
	l.step = step{id: s.ID, collects: s.Rule != nil, bargeIn: s.BargeIn, after: s.After, last: s.Last}
	if s.Rule != nil {
		l.collector.Start(now, *s.Rule)
	}
}

func (s *Step) release() {
	for _, c := range s.Playlist {
		c.Release()
	}
	if s.Background != nil {
		s.Background.Release()
	}
}

// Stop ends the step at once; id empty means whichever runs.
func (l *Leg) Stop(id string) bool {
	if l.step.id == "" || id != "" && id != l.step.id {
		return false
	}
	l.finish(Interrupted)
	return true
}

// SetGrant changes who commands the leg. A newer grant stops what older ones
// play, the background included.
func (l *Leg) SetGrant(grant uint64) error {
	switch {
	case grant < l.Grant:
		return ErrStaleGrant
	case grant == l.Grant:
		return nil
	}
	l.Grant = grant
	l.finish(Revoked)
	l.player.Clear()
	l.player.StopBackground()
	l.active = false
	return nil
}

// tickStep applies what happened since the last tick to the running step.
func (l *Leg) tickStep(now time.Duration) {
	s := &l.step
	if s.id == "" {
		return
	}
	outcome := collector.None
	if s.collects {
		outcome = l.collector.Check(now)
	}
	if outcome.Match() && !s.barged && !l.player.Done() {
		l.bargeIn()
	}
	if !l.player.Done() {
		return
	}
	if !s.playedOut {
		s.playedOut, s.ended = true, now
		if s.collects {
			l.collector.PlayedOut(now)
			outcome = l.collector.Check(now)
		}
	}
	switch {
	case outcome != collector.None:
		l.finish(reasons[outcome])
	case s.last,
		!s.collects && s.after < 0,
		s.after >= 0 && now >= s.ended+s.after:
		l.finish(Done)
	}
}

var reasons = [...]Reason{
	collector.TerminationKey: TerminationKey,
	collector.MaxDigits:      MaxDigits,
	collector.FirstTimeout:   FirstTimeout,
	collector.BetweenTimeout: BetweenTimeout,
}

func (l *Leg) bargeIn() {
	s := &l.step
	s.barged = true
	if s.bargeIn == BargeInNone {
		return
	}
	s.position.index, s.position.at = l.player.Position()
	if s.bargeIn == BargeInCurrent {
		l.player.Skip()
	} else {
		l.player.SkipAll()
	}
}

// finish ends the running step and says so exactly once.
func (l *Leg) finish(reason Reason) {
	s := &l.step
	if s.id == "" {
		return
	}
	e := &l.event
	*e = Event{Of: &l.Identity, Kind: StepResult, Step: s.id, Reason: reason, PlayedAll: l.player.PlayedAll()}
	e.ClipIndex, e.ClipPosition = l.player.Position()
	if s.barged && s.bargeIn != BargeInNone && l.player.Done() {
		e.ClipIndex, e.ClipPosition = s.position.index, s.position.at
	}
	if s.collects {
		e.Digits.set(l.collector.Digits())
		e.TerminationKey = l.collector.Key()
		l.collector.Stop()
	}
	e.Buffer.set(l.collector.Buffer())
	l.finished = s.id
	l.step = step{}
	l.player.Clear()
	l.Events.Emit(e)
}
