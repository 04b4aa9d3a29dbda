// Package menu is a small telephone menu: the web application at the other end
// of callmesh's callbacks. It needs nothing but Go's standard library.
//
// callmesh asks POST /newCall when a call comes in, and then POST /getIvrCommand
// each time it wants to know what to play and what to collect. All else that it
// posts is told for information.
package menu

import (
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options is what the application can be given. Zero fields take defaults.
type Options struct {
	Log *slog.Logger
	// Secret picks the number to guess, 1 to 9.
	Secret func() int
}

// New returns the application.
func New(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Secret == nil {
		o.Secret = func() int { return 1 + rand.IntN(9) }
	}
	a := &application{log: o.Log, secret: o.Secret, calls: map[string]*call{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /newCall", a.newCall)
	mux.HandleFunc("POST /getIvrCommand", a.getIvrCommand)
	mux.HandleFunc("POST /sessionCompleted", a.sessionCompleted)
	mux.HandleFunc("POST /", a.told)
	return mux
}

type application struct {
	log    *slog.Logger
	secret func() int

	mu    sync.Mutex
	calls map[string]*call // by session
}

// call is how far one caller has come.
type call struct {
	started time.Time
	place   place
	// silent counts the times in a row that no key was pressed.
	silent int
	// secret is the number to guess.
	secret int
}

type place int

const (
	atDoor place = iota // nothing was played yet
	inMenu
	inGame
)

// event has the fields of callmesh's callbacks that this application reads.
type event struct {
	SessionID    string      `json:"sessionId"`
	CallingParty string      `json:"callingParty"`
	CalledParty  string      `json:"calledParty"`
	DTMFParams   *dtmfParams `json:"dtmfParams"`
	Reason       string      `json:"reason"`
	Error        string      `json:"error"`
}

type dtmfParams struct {
	DTMFMatch string `json:"dtmfMatch"`
	Reason    string `json:"reason"`
}

// command answers getIvrCommand.
type command struct {
	Phrases []phrase `json:"phrases,omitempty"`
	DTMF    *dtmf    `json:"dtmf,omitempty"`
	BargeIn string   `json:"bargeIn,omitempty"`
	Hangup  bool     `json:"hangup,omitempty"`
}

type phrase struct {
	Format   string `json:"format"`
	FileName string `json:"fileName"`
}

type dtmf struct {
	Flush        bool `json:"flush"`
	MaxDigits    int  `json:"maxDigits"`
	FirstTimeout int  `json:"firstTimeout"`
}

// maxCalls bounds the memory should callmesh never say that a session completed.
const maxCalls = 10000

func (a *application) newCall(w http.ResponseWriter, r *http.Request) {
	ev, ok := read(w, r)
	if !ok {
		return
	}
	a.log.InfoContext(r.Context(), "a call comes in", "session", ev.SessionID, "from", ev.CallingParty, "to", ev.CalledParty)
	answer(w, map[string]string{"action": "ivr"})
}

func (a *application) getIvrCommand(w http.ResponseWriter, r *http.Request) {
	ev, ok := read(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	cmd := a.next(a.call(ev.SessionID), ev.DTMFParams)
	a.mu.Unlock()
	answer(w, cmd)
}

func (a *application) sessionCompleted(w http.ResponseWriter, r *http.Request) {
	ev, ok := read(w, r)
	if !ok {
		return
	}
	a.mu.Lock()
	delete(a.calls, ev.SessionID)
	a.mu.Unlock()
	a.log.InfoContext(r.Context(), "the call is over", "session", ev.SessionID, "reason", ev.Reason)
	answer(w, struct{}{})
}

// told takes every other callback: alarms, callAnswered, ….
func (a *application) told(w http.ResponseWriter, r *http.Request) {
	ev, ok := read(w, r)
	if !ok {
		return
	}
	a.log.InfoContext(r.Context(), "told", "what", strings.TrimPrefix(r.URL.Path, "/"), "session", ev.SessionID, "error", ev.Error)
	answer(w, struct{}{})
}

// call returns the caller's place; the lock is held.
func (a *application) call(session string) *call {
	c := a.calls[session]
	if c == nil {
		c = &call{started: time.Now()}
		a.calls[session] = c
		if len(a.calls) > maxCalls {
			a.dropOldest()
		}
	}
	return c
}

func (a *application) dropOldest() {
	var oldest string
	for session, c := range a.calls {
		if oldest == "" || c.started.Before(a.calls[oldest].started) {
			oldest = session
		}
	}
	delete(a.calls, oldest)
}

// next is the whole dialogue.
func (a *application) next(c *call, pressed *dtmfParams) command {
	if c.place == atDoor {
		c.place = inMenu
		return collect("welcome", "options")
	}
	key := ""
	if pressed != nil {
		key = pressed.DTMFMatch
	}
	if key == "" {
		return c.again()
	}
	c.silent = 0
	if c.place == inGame {
		return c.guess(key)
	}
	switch key {
	case "1":
		return collect("hours", "options")
	case "2":
		c.place, c.secret = inGame, a.secret()
		return collect("guess")
	case "9":
		return goodbye()
	case "*":
		return collect("options")
	default:
		return collect("invalid", "options")
	}
}

// again repeats the options to a silent caller twice, and then hangs up.
func (c *call) again() command {
	c.silent++
	switch {
	case c.silent > 2:
		return goodbye()
	case c.place == inGame:
		return collect("guess")
	default:
		return collect("options")
	}
}

func (c *call) guess(key string) command {
	if key == "*" {
		c.place = inMenu
		return collect("options")
	}
	number := int(key[0] - '0')
	switch {
	case key == "#" || number < 1 || number > 9:
		return collect("invalid", "guess")
	case number < c.secret:
		return collect("higher")
	case number > c.secret:
		return collect("lower")
	default:
		c.place = inMenu
		return collect("right", "options")
	}
}

// collect plays prompts and waits for one key, which may come at any time.
func collect(prompts ...string) command {
	cmd := play(prompts...)
	cmd.DTMF = &dtmf{Flush: true, MaxDigits: 1, FirstTimeout: 6}
	cmd.BargeIn = "all"
	return cmd
}

func goodbye() command {
	cmd := play("goodbye")
	cmd.Hangup = true
	return cmd
}

func play(prompts ...string) command {
	var cmd command
	for _, name := range prompts {
		cmd.Phrases = append(cmd.Phrases, phrase{Format: "file", FileName: FileName(name)})
	}
	return cmd
}

// FileName is what the prompt is called in the domain's prompt storage.
func FileName(prompt string) string { return "menu-" + prompt + ".wav" }

func read(w http.ResponseWriter, r *http.Request) (event, bool) {
	var ev event
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&ev); err != nil {
		http.Error(w, "the body is not a JSON object", http.StatusBadRequest)
		return event{}, false
	}
	return ev, true
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // callmesh is gone if this fails
}
