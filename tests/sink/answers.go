package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Object is a JSON object of an answer.
type Object = map[string]any

// JSON answers 200 with v.
func JSON(v any) Answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("answer cannot be JSON: %v", err)) // a mistake in the test itself
	}
	return Text(http.StatusOK, "application/json", string(body))
}

// Dynamic answers with what f makes of the callback.
func Dynamic(f func(*Callback) any) Answer {
	return func(w http.ResponseWriter, r *http.Request, c *Callback) { JSON(f(c))(w, r, c) }
}

// Text answers with any status and body.
func Text(status int, contentType, body string) Answer {
	return func(w http.ResponseWriter, _ *http.Request, _ *Callback) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the caller may be gone
	}
}

// Empty answers 200 without a body.
func Empty() Answer { return Text(http.StatusOK, "application/json", "") }

// Fail answers with an error status.
func Fail(status int) Answer { return Text(status, "text/plain", "out of order\n") }

// Garbage answers 200 with what is no JSON.
func Garbage() Answer {
	return Text(http.StatusOK, "application/json", "{\"action\": <html>\x00\xff")
}

// Huge answers 200 with valid JSON of n bytes.
func Huge(n int) Answer {
	return func(w http.ResponseWriter, _ *http.Request, _ *Callback) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"action":"ivr","padding":"`))
		chunk := bytes.Repeat([]byte("x"), 1<<16)
		for left := n; left > 0; left -= len(chunk) {
			if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
				return // the caller had enough, as it should
			}
		}
		_, _ = w.Write([]byte(`"}`))
	}
}

// Redirect answers 307 to the URL.
func Redirect(url string) Answer {
	return func(w http.ResponseWriter, r *http.Request, _ *Callback) {
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	}
}

// Reset breaks the connection without an answer.
func Reset() Answer {
	return func(w http.ResponseWriter, _ *http.Request, _ *Callback) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// Slow answers after the time has passed.
func (s *Sink) Slow(wait time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, r *http.Request, c *Callback) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			then(w, r, c)
		case <-r.Context().Done():
		case <-s.quit:
		}
	}
}

// Never holds the callback until its caller gives up.
func (s *Sink) Never() Answer { return s.Slow(time.Hour, Empty()) }

// IVR answers newCall with the dialogue.
func IVR() Answer { return JSON(Object{"action": "ivr"}) }

// Hangup answers getIvrCommand with the end of the call.
func Hangup() Answer { return JSON(Object{"hangup": true}) }

// File is a phrase that plays an uploaded prompt.
func File(name string) Object { return Object{"format": "file", "fileName": name} }
