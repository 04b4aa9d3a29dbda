package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// The alarm type of everything that goes wrong with newCall (contract §1.12).
const newCallError = "newCallEventError"

// controlResponse is the call control response of contract §1.5.
type controlResponse struct {
	Action      *string         `json:"action"`
	DropCode    string          `json:"dropCode"`
	ReferenceID json.RawMessage `json:"sessionReferenceId"`
}

// MaxReference bounds a sessionReferenceId: every callback carries it.
const MaxReference = 64 << 10

// unavailable are the actions of the contract that this version does not do.
var unavailable = map[string]bool{"call": true, "connect": true, "httpcall": true}

// Decide reads the application's answer to newCall. An answer that cannot be
// followed becomes an alarm in the contract's words, and Failure is set: the
// caller then applies the fallback.
func Decide(body []byte) call.Decision {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return failed("newCall response empty", "")
	}
	var r controlResponse
	if err := json.Unmarshal(body, &r); err != nil {
		return failed("newCall request failed", detail("reason", "the response is not a JSON object of the contract: "+jsonFault(err)))
	}
	switch {
	case len(r.ReferenceID) > MaxReference:
		return failed("newCall request failed", detail("sessionReferenceId", "is larger than 64 KiB"))
	case r.Action == nil || *r.Action == "":
		return failed("newCall response without action", "")
	case *r.Action == string(call.ActionIVR):
		return call.Decision{Action: call.ActionIVR, ReferenceID: given(r.ReferenceID)}
	case *r.Action == string(call.ActionDrop):
		code := call.DropCode(r.DropCode)
		if r.DropCode == "" {
			code = call.DropNoMessage
		}
		if !code.Known() {
			return failed("newCall request failed", detail("dropCode", r.DropCode, "reason", "dropCode is not one of the contract"))
		}
		return call.Decision{Action: call.ActionDrop, DropCode: code, ReferenceID: given(r.ReferenceID)}
	case unavailable[*r.Action]:
		return failed("newCall response with unknown action", detail("action", *r.Action, "reason", "this version does not offer the action yet"))
	default:
		return failed("newCall response with unknown action", detail("action", *r.Action))
	}
}

// Failed is the decision when newCall got no answer at all; why is for the
// customer's eyes.
func Failed(why string) call.Decision {
	return failed("newCall request failed", detail("reason", why))
}

func failed(alarm, details string) call.Decision {
	return call.Decision{
		Action: call.ActionDrop, DropCode: call.DropError, Failure: alarm,
		Alarms: []call.Alarm{{Type: newCallError, Error: alarm, Details: details}},
	}
}

// given returns the value if the application sent one; null is a value.
func given(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return nil
	}
	return raw
}

// Fallback is what an operator wants when the application does not decide.
type Fallback struct {
	// Action is drop or ivr; empty = none.
	Action string
	// Prompt is played before hanging up, with ivr.
	Prompt string
	Always bool
}

// FallBack applies the emergency fallback to a decision that failed, and
// raises its alarm. Without one the failed decision stands: 500.
func (f Fallback) FallBack(d call.Decision) call.Decision {
	if d.Failure == "" || f.Action == "" {
		return d
	}
	return f.decide(d, "triggeredByError")
}

// Force is the decision when the fallback is always on; the application is not
// asked.
func (f Fallback) Force() call.Decision { return f.decide(call.Decision{}, "triggeredByAlways") }

func (f Fallback) decide(d call.Decision, trigger string) call.Decision {
	d.Alarms = append(d.Alarms, call.Alarm{Type: "emergencyFallback", Error: trigger, Details: detail("action", f.Action)})
	switch f.Action {
	case "ivr":
		d.Action = call.ActionIVR
		if f.Prompt != "" {
			d.Command = promptCommand(f.Prompt)
		}
	default:
		d.Action, d.DropCode = call.ActionDrop, call.DropUnavailable
	}
	return d
}

// promptCommand is a getIvrCommand answer: play the prompt and hang up.
func promptCommand(prompt string) []byte {
	b, err := json.Marshal(map[string]any{
		"phrases": []map[string]string{{"format": "file", "fileName": prompt}}, "hangup": true,
	})
	if err != nil {
		return nil // strings always marshal
	}
	return b
}

// detail returns a JSON object of the pairs.
func detail(pairs ...string) string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "" // strings always marshal
	}
	return string(b)
}

// jsonFault words a decoding error without Go's type names.
func jsonFault(err error) string {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("malformed JSON at byte %d", e.Offset)
	}
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return "malformed JSON"
	case e.Field == "":
		return "a JSON object was expected, not a " + e.Value
	}
	return fmt.Sprintf("%s must not be a %s", e.Field, e.Value)
}
