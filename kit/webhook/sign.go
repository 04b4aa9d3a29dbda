package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries the signature of a callback.
const SignatureHeader = "Callmesh-Signature"

// Sign returns the header's value: "t=<Unix seconds>,v1=<hex>", where v1 is the
// HMAC-SHA256 over the time, a dot, and the body. The time is part of it so that
// a request that was recorded cannot be used for ever.
func Sign(key, body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(key, t, body))
}

func mac(key []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// Verify checks a header made by Sign, for those who receive callbacks. The
// signature may be tolerance old, or young. While keys are rotated a header may
// carry several v1 values.
func Verify(key []byte, header string, body []byte, now time.Time, tolerance time.Duration) error {
	var t string
	var sums []string
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			t = value
		case "v1":
			sums = append(sums, value)
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || len(sums) == 0 {
		return errors.New("webhook: no signature")
	}
	if age := now.Sub(time.Unix(seconds, 0)).Abs(); age > tolerance {
		return errors.New("webhook: the signature is too old")
	}
	want := mac(key, t, body)
	for _, s := range sums {
		got, err := hex.DecodeString(s)
		if err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("webhook: wrong signature")
}
