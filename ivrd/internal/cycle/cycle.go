// Package cycle is the getIvrCommand cycle of one dialogue as plain values: an
// event comes in, the next state and the effects to carry out come back (contract
// §1.8.4). It knows no clock and no I/O: waiting is a step of its own, so that
// mediad keeps the time and a dialogue that waits costs nothing here.
package cycle

import (
	"fmt"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
)

// Place is how far a dialogue has come.
type Place string

// The places. What is saved at each lets another instance go on from there.
const (
	// Asking: the question is out.
	Asking Place = "asking"
	// Resolving: the answer is there, its phrases are being fetched.
	Resolving Place = "resolving"
	// Playing: a step runs on the leg.
	Playing Place = "playing"
	// Ending: the dialogue is over, the session's owner is still to be told.
	Ending Place = "ending"
	// Over: nothing more will come.
	Over Place = "over"
)

// State is a dialogue at rest. It is saved as JSON; digits are in it only as the
// application will see them.
type State struct {
	Place Place  `json:"place"`
	Grant uint64 `json:"grant"`
	// Number counts the commands asked for, from 1; 0 is one that came with the
	// start.
	Number uint64 `json:"number"`
	// Attempt counts the steps that were started for this command.
	Attempt int `json:"attempt,omitempty"`
	// Question is what the running or next getIvrCommand carries.
	Question Question `json:"question"`
	// Command is what the application answered; nil while Asking.
	Command *command.Command `json:"command,omitempty"`
	// Encryption applies to the digit buffer until digits are collected anew: a
	// buffer filled under encryption must not be shown in clear by a later
	// command that collects nothing.
	Encryption *command.Encryption `json:"encryption,omitempty"`
	// Interrupted remembers an interrupt that overtook the answer it belongs to.
	Interrupted bool `json:"interrupted,omitempty"`
	// Hurried counts commands in a row that gave the caller nothing to hear or do.
	Hurried int `json:"hurried,omitempty"`
	// Asked is when the question of this command went out.
	Asked time.Time `json:"asked,omitzero"`
	// Failure is why the dialogue is Ending; nil when the application hung up.
	Failure *Failure `json:"failure,omitempty"`
}

// Question is what ivrd adds to getIvrCommand (contract §1.8).
type Question struct {
	DTMFBuffer string      `json:"dtmfBuffer,omitempty"`
	DTMFParams *DTMFParams `json:"dtmfParams,omitempty"`
}

// DTMFParams says how a collection ended.
type DTMFParams struct {
	DTMFMatch             string              `json:"dtmfMatch"`
	Reason                string              `json:"reason"`
	MatchedTerminationKey string              `json:"matchedTerminationKey,omitempty"`
	Encryption            *command.Encryption `json:"encryption,omitempty"`
}

// Failure ends a dialogue: Error is a value of contract §1.12, type
// ivrCommandError.
type Failure struct {
	Error   string            `json:"error"`
	Details map[string]string `json:"details,omitempty"`
}

// The error values of type ivrCommandError (contract §1.12).
const (
	ErrorPhrase       = "phraseError"
	ErrorPhraseRemote = "phraseRemoteCacheTimeout"
	ErrorMediaServer  = "mediaServerError"
	ErrorEmptyBody    = "Empty body in getIvrCommand response"
	ErrorRequest      = "getIvrCommand request error"
	ErrorCommand      = "IVR command failed"
)

const (
	// idle is how long a command with nothing to do lasts (contract §1.8.4).
	idle = time.Second
	// A command that is over sooner than hurry after its question is suspected of
	// being one of a tight loop; patience is how many of those in a row pass
	// before each is made to last idle. Digits typed ahead end commands as fast,
	// but not that many of them.
	hurry    = 100 * time.Millisecond
	patience = 20
)

// Begin returns a dialogue that has not asked anything yet.
func Begin(grant uint64) State { return State{Place: Asking, Grant: grant, Number: 1} }

// BeginWith returns a dialogue that carries out a command before it asks.
func BeginWith(grant uint64, cmd command.Command) State {
	return State{Place: Resolving, Grant: grant, Command: &cmd}
}

// CommandID names the command that is being asked for or carried out. It follows
// from the state, so that an instance that takes over asks under the same id.
func (s State) CommandID() string { return fmt.Sprintf("%d.%d", s.Grant, s.Number) }

// StepID names the step that runs, unique within the leg.
func (s State) StepID() string { return fmt.Sprintf("%s.%d", s.CommandID(), s.Attempt) }

// Interruptible tells whether an interrupt of the command would have an effect.
func (s State) Interruptible(commandID string) bool {
	return commandID == s.CommandID() && (s.Place == Asking || s.Place == Resolving || s.Place == Playing)
}
