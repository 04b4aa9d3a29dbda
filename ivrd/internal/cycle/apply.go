package cycle

import (
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
)

// Event is what happened to a dialogue.
type Event interface{ event() }

type (
	// Started begins a fresh dialogue.
	Started struct{}
	// Resumed continues one from its saved state on another instance.
	Resumed struct{}
	// Answered is the application's answer to the question.
	Answered struct{ Command command.Command }
	// Failed ends the dialogue for the reason given.
	Failed struct{ Failure Failure }
	// Resolved has the clips of the phrases that can be played, and what is wrong
	// with the others.
	Resolved struct {
		Clips      []Clip
		Background *Clip
		Problems   []Problem
	}
	// StepDone is the result of a step.
	StepDone struct {
		StepID         string
		Reason         Reason
		Digits         string
		TerminationKey string
		Buffer         string
	}
	// StepMissing says that the leg does not run the step and has no result of it:
	// the instance that saved the state died before it started the step.
	StepMissing struct{ StepID string }
	// Interrupted asks to stop the command.
	Interrupted struct{ CommandID string }
	// Revoked takes the leg away: somebody else commands it now. StepID, if any,
	// is the step that was cut off by it.
	Revoked struct{ StepID string }
	// Told says that the owner of the session knows about the end.
	Told struct{}
)

func (Started) event()     {}
func (Resumed) event()     {}
func (Answered) event()    {}
func (Failed) event()      {}
func (Resolved) event()    {}
func (StepDone) event()    {}
func (StepMissing) event() {}
func (Interrupted) event() {}
func (Revoked) event()     {}
func (Told) event()        {}

// Reason is why a step ended, under the names of dtmfParams.reason where there
// is one (contract §1.8).
type Reason string

// The reasons.
const (
	ReasonDone           Reason = "done"
	ReasonInterrupted    Reason = "interrupted"
	ReasonTerminationKey Reason = "terminationKey"
	ReasonMaxDigits      Reason = "maxDigits"
	ReasonFirstTimeout   Reason = "firstTimeout"
	ReasonBetweenTimeout Reason = "betweenTimeout"
)

// Problem is what is wrong with one phrase.
type Problem struct {
	// Index of the phrase; -1 is the background prompt.
	Index int
	// Error is phraseError or phraseRemoteCacheTimeout.
	Error string
	// FileName or URL is what the phrase named, the URL without its query.
	FileName, URL string
	Reason        string
}

// Effect is work that a transition asks for.
type Effect interface{ effect() }

type (
	// Ask puts the question of the state.
	Ask struct{}
	// Resolve fetches the audio of the state's command.
	Resolve struct{}
	// Run starts a step.
	Run struct{ Step Step }
	// Interrupt stops a step; its result follows.
	Interrupt struct{ StepID string }
	// Await finds out what became of a step that another instance started.
	Await struct{ StepID string }
	// Alarm notifies the application of an error. Key is stable over repetitions.
	Alarm struct {
		Key     string
		Error   string
		Details map[string]string
	}
	// End tells the owner of the session what shall become of the call.
	End struct {
		Hangup bool
		Detail string
	}
	// Forget drops the dialogue: nothing of it will be asked or said any more.
	Forget struct{}
)

func (Ask) effect()       {}
func (Resolve) effect()   {}
func (Run) effect()       {}
func (Interrupt) effect() {}
func (Await) effect()     {}
func (Alarm) effect()     {}
func (End) effect()       {}
func (Forget) effect()    {}

// Apply returns the dialogue after ev, and what is to be done. s itself does not
// change. An event that comes too late changes nothing: results of old steps,
// answers after an end, and interrupts of finished commands are all ordinary.
func (s State) Apply(ev Event, now time.Time) (State, []Effect) {
	if s.Place == Over {
		return s, nil
	}
	switch ev := ev.(type) {
	case Revoked:
		// A leg tells of the steps of earlier grants as well.
		if ev.StepID == "" || ev.StepID == s.StepID() {
			return s.forget()
		}
	case Told:
		return s.forget()
	case Started, Resumed:
		return s.resume(now)
	case Failed:
		if s.Place != Ending {
			return s.fail(ev.Failure)
		}
	case Answered:
		if s.Place == Asking {
			return s.answered(ev.Command, now)
		}
	case Resolved:
		if s.Place == Resolving {
			return s.resolved(ev)
		}
	case StepDone:
		if s.Place == Playing && ev.StepID == s.StepID() {
			return s.stepDone(ev, now)
		}
	case StepMissing:
		if s.Place == Playing && ev.StepID == s.StepID() {
			s.Place = Resolving
			return s, []Effect{Resolve{}}
		}
	case Interrupted:
		if s.Interruptible(ev.CommandID) {
			return s.interrupted(now)
		}
	}
	return s, nil
}

// resume carries on from wherever the state stands. For a fresh dialogue that is
// the first question.
func (s State) resume(now time.Time) (State, []Effect) {
	switch s.Place {
	case Resolving:
		return s, []Effect{Resolve{}}
	case Playing:
		return s, []Effect{Await{StepID: s.StepID()}}
	case Ending:
		return s, s.ending()
	default:
		s.Asked = now
		return s, []Effect{Ask{}}
	}
}

func (s State) forget() (State, []Effect) {
	s.Place = Over
	return s, []Effect{Forget{}}
}

// next asks for the next command, with what the last one collected.
func (s State) next(q Question, now time.Time) (State, []Effect) {
	if now.Sub(s.Asked) < hurry {
		s.Hurried++
	} else {
		s.Hurried = 0
	}
	s.Place, s.Command, s.Attempt, s.Interrupted = Asking, nil, 0, false
	s.Number++
	s.Question, s.Asked = q, now
	return s, []Effect{Ask{}}
}

func (s State) answered(cmd command.Command, now time.Time) (State, []Effect) {
	if s.Interrupted {
		// The digits are still what they were when this command was asked for.
		return s.next(Question{DTMFBuffer: s.Question.DTMFBuffer}, now)
	}
	s.Place, s.Command = Resolving, &cmd
	return s, []Effect{Resolve{}}
}

func (s State) resolved(ev Resolved) (State, []Effect) {
	cmd := *s.Command
	if cmd.Hangup && len(ev.Clips) == 0 {
		s.Place = Ending
		return s, append(s.alarms(ev.Problems), s.ending()...)
	}
	s.Place = Playing
	s.Attempt++
	if cmd.DTMF != nil {
		s.Encryption = cmd.DTMF.Encryption
	}
	// The caller waits for sound, the alarms do not.
	return s, append([]Effect{Run{Step: s.step(ev)}}, s.alarms(ev.Problems)...)
}

func (s State) stepDone(ev StepDone, now time.Time) (State, []Effect) {
	if s.Command.Hangup && ev.Reason != ReasonInterrupted {
		s.Place = Ending
		return s, s.ending()
	}
	q := Question{DTMFBuffer: s.encrypt(ev.Buffer)}
	switch ev.Reason {
	case ReasonTerminationKey, ReasonMaxDigits, ReasonFirstTimeout, ReasonBetweenTimeout:
		q.DTMFParams = &DTMFParams{
			DTMFMatch:             s.encrypt(ev.Digits),
			Reason:                string(ev.Reason),
			MatchedTerminationKey: ev.TerminationKey,
			Encryption:            s.Encryption,
		}
	}
	return s.next(q, now)
}

func (s State) interrupted(now time.Time) (State, []Effect) {
	switch s.Place {
	case Asking:
		// The application may interrupt a command before its own answer has
		// arrived here: the answer is then passed over.
		s.Interrupted = true
		return s, nil
	case Resolving:
		return s.next(Question{DTMFBuffer: s.Question.DTMFBuffer}, now)
	default:
		return s, []Effect{Interrupt{StepID: s.StepID()}}
	}
}

func (s State) fail(f Failure) (State, []Effect) {
	s.Place, s.Failure = Ending, &f
	return s, s.ending()
}

// ending repeats safely: alarms carry stable keys, and the owner takes an end
// under a grant once.
func (s State) ending() []Effect {
	if s.Failure == nil {
		return []Effect{End{Hangup: true}}
	}
	return []Effect{
		Alarm{Key: s.CommandID() + "/" + s.Failure.Error, Error: s.Failure.Error, Details: s.Failure.Details},
		End{Detail: s.Failure.Error},
	}
}

func (s State) alarms(problems []Problem) []Effect {
	effects := make([]Effect, 0, len(problems))
	for _, p := range problems {
		where, details := "background", map[string]string{"reason": p.Reason}
		if p.Index >= 0 {
			where = strconv.Itoa(p.Index)
			details["phrase"] = where
		} else {
			details["phrase"] = "backgroundPrompt"
		}
		if p.FileName != "" {
			details["fileName"] = p.FileName
		}
		if p.URL != "" {
			details["url"] = p.URL
		}
		effects = append(effects, Alarm{Key: s.CommandID() + "/" + p.Error + "/" + where, Error: p.Error, Details: details})
	}
	return effects
}

// encrypt is what the application sees of digits: lowercase hex md5(salt + value)
// where it asked for that (contract §1.8.1).
func (s State) encrypt(digits string) string {
	if s.Encryption == nil || digits == "" {
		return digits
	}
	sum := md5.Sum([]byte(s.Encryption.Salt + digits))
	return hex.EncodeToString(sum[:])
}
