package ua

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var (
	errNoDigits = errors.New("ua: no DTMF body")
	errBadDigit = errors.New("ua: malformed DTMF body")
)

// Lengths of a digit that does not say, or says nonsense.
const (
	usualDigit   = 250 * time.Millisecond
	longestDigit = 10 * time.Second
)

// parseDigit reads the body of an INFO with DTMF: application/dtmf-relay
// ("Signal=5", "Duration=160" in ms) or application/dtmf (the digit alone).
// Neither is a standard; both are what gateways send.
func parseDigit(contentType string, body []byte) (digit string, d time.Duration, err error) {
	d = usualDigit
	text := strings.TrimSpace(string(body))
	switch contentType {
	case "application/dtmf":
		// Some send the dtmf-relay form under this name.
		if !strings.Contains(text, "=") {
			digit = text
			break
		}
		fallthrough
	case "application/dtmf-relay":
		for line := range strings.Lines(text) {
			k, v, _ := strings.Cut(line, "=")
			v = strings.TrimSpace(v)
			switch strings.ToLower(strings.TrimSpace(k)) {
			case "signal":
				digit = v
			case "duration":
				if ms, err := strconv.Atoi(v); err == nil && ms > 0 {
					d = min(time.Duration(ms)*time.Millisecond, longestDigit)
				}
			}
		}
	default:
		return "", 0, errNoDigits
	}
	digit = strings.ToUpper(digit)
	switch digit { // by event number, RFC 4733 §3.2
	case "10":
		digit = "*"
	case "11":
		digit = "#"
	}
	if len(digit) != 1 || !strings.Contains("0123456789*#ABCD", digit) {
		return "", 0, errBadDigit
	}
	return digit, d, nil
}
