// Package sink is the customer's application for tests: it answers callmesh's
// callbacks by script, keeps every request in order, holds each to the
// contract, and can be slow, dead or mad.
package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Callback is one request that came in.
type Callback struct {
	// Kind is the last segment of the path: newCall, getIvrCommand, alarms, ….
	Kind string
	// Seq counts all callbacks from 1, in the order of arrival.
	Seq    int
	At     time.Time
	Header http.Header
	Raw    []byte
	Body   map[string]any
}

// Session is the sessionId of the callback.
func (c *Callback) Session() string { return c.Text("sessionId") }

// Text returns a field that holds a string, or "".
func (c *Callback) Text(field string) string {
	s, _ := c.Body[field].(string)
	return s
}

// Object returns a field that holds an object, or nil.
func (c *Callback) Object(field string) map[string]any {
	o, _ := c.Body[field].(map[string]any)
	return o
}

// Answer writes the response to one callback.
type Answer func(w http.ResponseWriter, r *http.Request, c *Callback)

// Sink is a running application.
type Sink struct {
	url    string
	server *http.Server
	wg     sync.WaitGroup
	quit   chan struct{}

	mu         sync.Mutex
	changed    chan struct{}
	scripts    map[string][]Answer
	counts     map[string]int // by kind and session
	callbacks  []*Callback
	violations []string
}

// maxBody bounds what a callback may weigh.
const maxBody = 1 << 20

// Start listens on a free port of the loopback interface.
func Start() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{
		url: "http://" + l.Addr().String(), quit: make(chan struct{}), changed: make(chan struct{}),
		scripts: make(map[string][]Answer), counts: make(map[string]int),
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	s.wg.Go(func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.violation("sink stopped serving: %v", err)
		}
	})
	return s, nil
}

// Close stops the application; answers that never come are cut off.
func (s *Sink) Close() error {
	close(s.quit)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	s.wg.Wait()
	return err
}

// URL is the base URL of the callbacks.
func (s *Sink) URL() string { return s.url }

// Alarms is the URL for alarms.
func (s *Sink) Alarms() string { return s.url + "/alarms" }

// Script sets what the application answers to callbacks of the kind: the first
// answer for the first of a session, and so on; the last repeats. Without a
// script the answer is {}.
func (s *Sink) Script(kind string, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[kind] = answers
}

// ServeHTTP takes a callback.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return // the caller gave up
	}
	c := &Callback{Kind: r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], At: time.Now(), Header: r.Header.Clone(), Raw: raw}
	for _, v := range check(r, c) {
		s.violation("%s: %s: %.500s", c.Kind, v, raw)
	}
	s.next(c)(w, r, c)
}

// next keeps the callback and returns its answer.
func (s *Sink) next(c *Callback) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Seq = len(s.callbacks) + 1
	s.callbacks = append(s.callbacks, c)
	close(s.changed)
	s.changed = make(chan struct{})
	script := s.scripts[c.Kind]
	key := c.Kind + " " + c.Session()
	n := s.counts[key]
	s.counts[key]++
	if len(script) == 0 {
		return JSON(struct{}{})
	}
	return script[min(n, len(script)-1)]
}

func (s *Sink) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < 100 {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// Violations lists what breaks the contract in the callbacks so far.
func (s *Sink) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

// Match tells whether a callback is meant.
type Match func(*Callback) bool

// Of matches the callbacks of a kind.
func Of(kind string) Match { return func(c *Callback) bool { return c.Kind == kind } }

// In narrows a match to one session.
func (m Match) In(session string) Match {
	return func(c *Callback) bool { return m(c) && c.Session() == session }
}

// With narrows a match to callbacks whose field holds the string.
func (m Match) With(field, value string) Match {
	return func(c *Callback) bool { return m(c) && c.Text(field) == value }
}

// All returns the callbacks that match so far, in order of arrival.
func (s *Sink) All(match Match) []*Callback {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all(match)
}

func (s *Sink) all(match Match) []*Callback {
	var found []*Callback
	for _, c := range s.callbacks {
		if match(c) {
			found = append(found, c)
		}
	}
	return found
}

// Await waits until n callbacks match and returns the nth, counted from 1.
func (s *Sink) Await(ctx context.Context, n int, match Match) (*Callback, error) {
	for {
		s.mu.Lock()
		found, changed := s.all(match), s.changed
		s.mu.Unlock()
		if len(found) >= n {
			return found[n-1], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("only %d of %d such callbacks: %w; there were: %s", len(found), n, ctx.Err(), s.Summary())
		}
	}
}

// Summary lists the kinds of all callbacks so far.
func (s *Sink) Summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kinds []string
	for i, c := range s.callbacks {
		if i == 50 {
			kinds = append(kinds, "…")
			break
		}
		text := c.Kind
		if e := c.Text("error"); e != "" {
			text += fmt.Sprintf("(%s)", e)
		}
		kinds = append(kinds, text)
	}
	if len(kinds) == 0 {
		return "none"
	}
	return strings.Join(kinds, ", ")
}

// decode reads a JSON object strictly: one value, no duplicate or trailing text.
func decode(raw []byte) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text behind the JSON object")
	}
	if body == nil {
		return nil, errors.New("null is not an object")
	}
	return body, nil
}
