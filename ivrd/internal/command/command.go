// Package command reads the application's answer to getIvrCommand: what to play,
// what to collect, and when to ask again (contract §1.8). It tolerates what the
// contract does not know and names the field of what it cannot use.
package command

import (
	"encoding/json"
	"fmt"
	"time"
)

// Command is one answer to getIvrCommand, validated and with defaults filled in.
type Command struct {
	// DTMF is nil when nothing is collected.
	DTMF       *DTMF       `json:"dtmf,omitempty"`
	Phrases    []Phrase    `json:"phrases,omitempty"`
	Background *Background `json:"background,omitempty"`
	BargeIn    BargeIn     `json:"bargeIn,omitempty"`
	// RecordedCallback asks for fileRecorded after a recording phrase.
	RecordedCallback bool `json:"recordedCallback,omitempty"`
	Hangup           bool `json:"hangup,omitempty"`
	// After is getIVRCommandAfter; nil when the answer has none, which differs
	// from 0 where digits are collected.
	After *time.Duration `json:"after,omitempty"`
}

// BargeIn says what a match during play-out stops.
type BargeIn string

// The values of bargeIn.
const (
	BargeInNone    BargeIn = "none"
	BargeInCurrent BargeIn = "current"
	BargeInAll     BargeIn = "all"
)

// DTMF is how digits are collected (contract §1.8.1).
type DTMF struct {
	Flush      bool        `json:"flush,omitempty"`
	Encryption *Encryption `json:"encryption,omitempty"`
	// MaxDigits 0 is unlimited.
	MaxDigits      int           `json:"maxDigits,omitempty"`
	FirstTimeout   time.Duration `json:"firstTimeout"`
	BetweenTimeout time.Duration `json:"betweenTimeout"`
	// TerminationKeys is a set: any of them ends the input.
	TerminationKeys string `json:"terminationKeys,omitempty"`
}

// Encryption is how digits are shown to the application. MD5 is the one type
// there is.
type Encryption struct {
	Type string `json:"type"`
	Salt string `json:"salt"`
}

// Background is audio between phrases (contract §1.8.3). Exactly one of
// FileName, URL and Stop is set.
type Background struct {
	FileName    string        `json:"fileName,omitempty"`
	URL         string        `json:"url,omitempty"`
	RepeatPause time.Duration `json:"repeatPause,omitempty"`
	Stop        bool          `json:"stop,omitempty"`
	// Problem says why this background cannot be played.
	Problem string `json:"problem,omitempty"`
}

// What an answer may hold at most. The contract sets no limits; these are far
// above what a dialogue needs and keep one answer from filling the memory.
const (
	// MaxBody is the size of the answer in bytes.
	MaxBody = 256 << 10
	// MaxPhrases is the number of phrases in one command.
	MaxPhrases = 100

	// maxDigits is what mediad's buffer holds: with more, no input would match.
	maxDigits          = 128
	maxTerminationKeys = 16
	maxSalt            = 1024
	maxTimeout         = time.Hour
	maxAfter           = 24 * time.Hour
	maxRepeatPause     = time.Hour
)

// Defaults of contract §1.8.1.
const (
	defaultFirstTimeout   = 10 * time.Second
	defaultBetweenTimeout = 5 * time.Second
)

// Error says which field of the answer is at fault. It never holds the value,
// which may be a secret or digits.
type Error struct {
	Field  string
	Reason string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return "getIvrCommand answer " + e.Reason
	}
	return "getIvrCommand answer: " + e.Field + " " + e.Reason
}

// answer is the wire form. Fields are raw so that each gets an error of its own.
type answer struct {
	DTMF             json.RawMessage `json:"dtmf"`
	Phrases          json.RawMessage `json:"phrases"`
	Background       json.RawMessage `json:"backgroundPrompt"`
	BargeIn          json.RawMessage `json:"bargeIn"`
	RecordedCallback json.RawMessage `json:"recordedCallback"`
	Hangup           json.RawMessage `json:"hangup"`
	After            json.RawMessage `json:"getIVRCommandAfter"`
}

// Parse reads an answer. A phrase that cannot be played is no error of the
// answer: it carries its Problem and is skipped with an alarm (contract §1.8.2).
func Parse(body []byte) (Command, error) {
	if len(body) > MaxBody {
		return Command{}, &Error{Reason: fmt.Sprintf("is longer than %d bytes", MaxBody)}
	}
	var a answer
	if err := object(body, &a); err != nil {
		return Command{}, &Error{Reason: err.Error()}
	}
	r := reader{}
	cmd := Command{
		DTMF:             r.dtmf(a.DTMF),
		Phrases:          r.phrases(a.Phrases),
		Background:       r.background(a.Background),
		BargeIn:          r.bargeIn(a.BargeIn),
		RecordedCallback: r.boolean("recordedCallback", a.RecordedCallback),
		Hangup:           r.boolean("hangup", a.Hangup),
	}
	if given(a.After) {
		after := r.seconds("getIVRCommandAfter", a.After, 0, maxAfter)
		cmd.After = &after
	}
	if r.err != nil {
		return Command{}, r.err
	}
	return cmd, nil
}

func (r *reader) bargeIn(raw json.RawMessage) BargeIn {
	switch b := BargeIn(r.text("bargeIn", raw, 32)); b {
	case "":
		return BargeInNone
	case BargeInNone, BargeInCurrent, BargeInAll:
		return b
	default:
		r.fail("bargeIn", "must be none, current or all")
		return BargeInNone
	}
}

func (r *reader) dtmf(raw json.RawMessage) *DTMF {
	if !given(raw) {
		return nil
	}
	var d struct {
		Flush          json.RawMessage `json:"flush"`
		Encryption     json.RawMessage `json:"encryption"`
		MaxDigits      json.RawMessage `json:"maxDigits"`
		FirstTimeout   json.RawMessage `json:"firstTimeout"`
		BetweenTimeout json.RawMessage `json:"betweenTimeout"`
		TerminationKey json.RawMessage `json:"terminationKey"`
	}
	if err := object(raw, &d); err != nil {
		r.fail("dtmf", err.Error())
		return nil
	}
	return &DTMF{
		Flush:           r.boolean("dtmf.flush", d.Flush),
		Encryption:      r.encryption(d.Encryption),
		MaxDigits:       r.whole("dtmf.maxDigits", d.MaxDigits, maxDigits),
		FirstTimeout:    r.seconds("dtmf.firstTimeout", d.FirstTimeout, defaultFirstTimeout, maxTimeout),
		BetweenTimeout:  r.seconds("dtmf.betweenTimeout", d.BetweenTimeout, defaultBetweenTimeout, maxTimeout),
		TerminationKeys: r.keys("dtmf.terminationKey", d.TerminationKey),
	}
}

func (r *reader) encryption(raw json.RawMessage) *Encryption {
	if !given(raw) {
		return nil
	}
	var e struct {
		Type json.RawMessage `json:"type"`
		Salt json.RawMessage `json:"salt"`
	}
	if err := object(raw, &e); err != nil {
		r.fail("dtmf.encryption", err.Error())
		return nil
	}
	kind := r.text("dtmf.encryption.type", e.Type, 32)
	salt := r.text("dtmf.encryption.salt", e.Salt, maxSalt)
	// Anything else must not fall back to clear text: the application asked that
	// digits be hidden.
	if kind != "md5" {
		r.fail("dtmf.encryption.type", "must be md5")
		return nil
	}
	return &Encryption{Type: kind, Salt: salt}
}

func (r *reader) background(raw json.RawMessage) *Background {
	if !given(raw) {
		return nil
	}
	var b struct {
		FileName    json.RawMessage `json:"fileName"`
		URL         json.RawMessage `json:"url"`
		RepeatPause json.RawMessage `json:"repeatPause"`
		Stop        json.RawMessage `json:"stop"`
	}
	if err := object(raw, &b); err != nil {
		r.fail("backgroundPrompt", err.Error())
		return nil
	}
	bg := &Background{
		FileName:    r.text("backgroundPrompt.fileName", b.FileName, maxURL),
		URL:         r.text("backgroundPrompt.url", b.URL, maxURL),
		RepeatPause: r.seconds("backgroundPrompt.repeatPause", b.RepeatPause, 0, maxRepeatPause),
		Stop:        r.boolean("backgroundPrompt.stop", b.Stop),
	}
	switch {
	case bg.Stop:
		return &Background{Stop: true}
	case bg.FileName != "" && bg.URL != "":
		bg.Problem = "fileName and url exclude each other"
	case bg.FileName == "" && bg.URL == "":
		bg.Problem = "fileName or url is missing"
	case bg.URL != "":
		bg.Problem = checkURL("url", bg.URL)
	default:
		bg.Problem = checkFileName(bg.FileName)
	}
	return bg
}
