package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// reader turns raw fields into values and keeps the first error.
type reader struct{ err *Error }

func (r *reader) fail(field, reason string) {
	if r.err == nil {
		r.err = &Error{Field: field, Reason: reason}
	}
}

// given tells a field that is there from one that is absent or null.
func given(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// object decodes a JSON object; its error is a reason, without the text itself.
func object(raw []byte, into any) error {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("is not a JSON object")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("is not valid JSON at byte %d", syntax.Offset)
		}
		return errors.New("is not a valid JSON object")
	}
	return nil
}

func (r *reader) text(field string, raw json.RawMessage, most int) string {
	if !given(raw) {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		r.fail(field, "must be a string")
		return ""
	}
	if len(s) > most {
		r.fail(field, fmt.Sprintf("is longer than %d bytes", most))
		return ""
	}
	return s
}

func (r *reader) boolean(field string, raw json.RawMessage) bool {
	switch {
	case !given(raw):
		return false
	case string(raw) == "true", string(raw) == `"true"`:
		return true
	case string(raw) == "false", string(raw) == `"false"`:
		return false
	}
	r.fail(field, "must be true or false")
	return false
}

// number also takes a number written as a string: the published samples mix the
// two (contract §1.4).
func (r *reader) number(field string, raw json.RawMessage) (float64, bool) {
	text := string(raw)
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil {
		text = strings.TrimSpace(quoted)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		r.fail(field, "must be a number")
		return 0, false
	}
	if n < 0 {
		r.fail(field, "must not be negative")
		return 0, false
	}
	return n, true
}

func (r *reader) whole(field string, raw json.RawMessage, most int) int {
	if !given(raw) {
		return 0
	}
	n, ok := r.number(field, raw)
	switch {
	case !ok:
		return 0
	case n != math.Trunc(n):
		r.fail(field, "must be a whole number")
		return 0
	case n > float64(most):
		r.fail(field, fmt.Sprintf("must not exceed %d", most))
		return 0
	}
	return int(n)
}

func (r *reader) seconds(field string, raw json.RawMessage, absent, most time.Duration) time.Duration {
	if !given(raw) {
		return absent
	}
	n, ok := r.number(field, raw)
	switch {
	case !ok:
		return 0
	case n > most.Seconds():
		r.fail(field, fmt.Sprintf("must not exceed %d seconds", int(most.Seconds())))
		return 0
	}
	return time.Duration(n * float64(time.Second)).Round(time.Millisecond)
}

// keys reads a set of DTMF keys.
func (r *reader) keys(field string, raw json.RawMessage) string {
	set := strings.ToUpper(r.text(field, raw, maxTerminationKeys))
	if strings.Trim(set, "0123456789*#ABCD") != "" {
		r.fail(field, "may hold 0-9, *, # and A-D only")
		return ""
	}
	return set
}
