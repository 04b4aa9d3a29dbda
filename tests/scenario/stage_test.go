package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/tests/deployment"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// patience is how long a scenario waits for one thing to happen: far more than
// it takes, so that only what never happens fails on a busy machine.
const patience = 15 * time.Second

// scenario is one story with a domain of its own.
type scenario struct {
	name string
	// application changes the domain's application before the deployment starts.
	application func(*deployment.Application)
	play        func(*stage)
}

// stage is what one scenario has at hand.
type stage struct {
	*testing.T
	deployment.Deployment
	app    *sink.Sink
	domain deployment.Domain
	// neighbour is another domain, with its own key.
	neighbour deployment.Domain
	// unsettled is set by scenarios whose sessionCompleted cannot arrive.
	unsettled bool
}

// number is what phones call.
func (s *stage) number() string { return s.domain.Numbers[0] }

func (s *stage) within(d time.Duration) context.Context {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), d)
	s.Cleanup(cancel)
	return ctx
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// phone returns a phone that is held to the rules until the scenario ends.
func (s *stage) phone(cfg phone.Config) *handset {
	s.Helper()
	p, err := phone.New(cfg)
	s.must(err)
	s.Cleanup(func() {
		if err := p.Close(); err != nil {
			s.Error(err)
		}
		for _, v := range p.Violations() {
			s.Errorf("phone: %s", v)
		}
	})
	at := s.SIP()
	if cfg.Transport == "tcp" {
		at = s.SIPTCP()
	}
	return &handset{Phone: p, stage: s, at: at}
}

// handset is a phone in front of a deployment.
type handset struct {
	*phone.Phone
	stage *stage
	at    string
}

// dial calls the scenario's number.
func (h *handset) dial(options phone.Options) *line {
	h.stage.Helper()
	return h.dialTo(h.stage.number(), options)
}

func (h *handset) dialTo(number string, options phone.Options) *line {
	h.stage.Helper()
	options.Proxy = h.at
	c, err := h.Dial(fmt.Sprintf("sip:%s@%s", number, h.stage.domain.Name), options)
	h.stage.must(err)
	return &line{Call: c, stage: h.stage}
}

// line is a call whose failures end the scenario.
type line struct {
	*phone.Call
	stage *stage
}

// call dials and waits for the answer.
func (s *stage) call() *line {
	s.Helper()
	l := s.phone(phone.Config{}).dial(phone.Options{})
	l.answered()
	return l
}

func (l *line) answered() {
	l.stage.Helper()
	l.stage.must(l.Answered(l.stage.within(patience)))
}

func (l *line) refused(status int) {
	l.stage.Helper()
	got, err := l.Final(l.stage.within(patience))
	l.stage.must(err)
	if got != status {
		l.stage.Fatalf("call ended with %d, want %d", got, status)
	}
}

func (l *line) hears(frequency float64) {
	l.stage.Helper()
	l.stage.must(l.Audio.Hear(l.stage.within(patience), frequency))
}

func (l *line) press(keys string) time.Time {
	l.stage.Helper()
	at, err := l.Audio.Press(l.stage.within(patience), keys)
	l.stage.must(err)
	return at
}

func (l *line) hangsUp() {
	l.stage.Helper()
	l.stage.must(l.Hangup(l.stage.within(patience)))
}

// ends waits for callmesh's BYE.
func (l *line) ends() {
	l.stage.Helper()
	_, err := l.Ended(l.stage.within(patience))
	l.stage.must(err)
}

// heard is for how long the frequency sounded.
func (l *line) heard(frequency float64) time.Duration {
	return phone.ToneLength(l.Audio.Heard(), frequency)
}

// nth waits for the nth callback of the kind.
func (s *stage) nth(n int, kind string) *sink.Callback {
	s.Helper()
	c, err := s.app.Await(s.within(patience), n, sink.Of(kind))
	s.must(err)
	return c
}

// command waits for the nth getIvrCommand.
func (s *stage) command(n int) *sink.Callback {
	s.Helper()
	return s.nth(n, "getIvrCommand")
}

// alarm waits for an alarm with the error.
func (s *stage) alarm(kind, text string) *sink.Callback {
	s.Helper()
	c, err := s.app.Await(s.within(patience), 1, sink.Of("alarms").With("type", kind).With("error", text))
	s.must(err)
	return c
}

// completed waits for sessionCompleted and checks its reason.
func (s *stage) completed(reason string) *sink.Callback {
	s.Helper()
	c := s.nth(1, "sessionCompleted")
	if got := c.Text("reason"); got != reason {
		s.Errorf("sessionCompleted says %q, want %q", got, reason)
	}
	return c
}

// prompt uploads a tone as a prompt file.
func (s *stage) prompt(name string, frequency float64, length time.Duration) sink.Object {
	s.Helper()
	status, body := s.rest("PUT", s.media("promptfile/"+name), phone.WAV(phone.Tone(frequency, length)))
	if status != http.StatusOK {
		s.Fatalf("upload %s: %d %s", name, status, body)
	}
	return sink.File(name)
}

// media is the path of a mediaservice operation of the scenario's domain.
func (s *stage) media(operation string) string {
	return "/mediaservice/" + s.domain.Name + "/" + operation
}

// token is a session id as the calls family writes it.
func token(session string) string { return strings.ReplaceAll(session, "-", "") }

// response is what REST answered.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request with the given key; "" sends none.
func (s *stage) do(method, path, key string, body []byte) response {
	s.Helper()
	req, err := http.NewRequestWithContext(s.within(patience), method, s.REST()+path, bytes.NewReader(body))
	s.must(err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(string(body), "RIFF") {
		req.Header.Set("Content-Type", "audio/wav")
	}
	resp, err := http.DefaultClient.Do(req)
	s.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	s.must(err)
	return response{resp.StatusCode, resp.Header, text}
}

// rest sends a request with the domain's own key.
func (s *stage) rest(method, path string, body []byte) (int, string) {
	s.Helper()
	r := s.do(method, path, s.domain.Key, body)
	return r.status, string(r.body)
}

// post sends a mediaservice operation and returns its success.
func (s *stage) post(operation string, body sink.Object) bool {
	s.Helper()
	text, err := json.Marshal(body)
	s.must(err)
	status, answer := s.rest("POST", s.media(operation), text)
	var result struct {
		Success *bool `json:"success"`
	}
	if status != http.StatusOK || json.Unmarshal([]byte(answer), &result) != nil || result.Success == nil {
		s.Fatalf("%s: %d %s", operation, status, answer)
	}
	return *result.Success
}

// session reads a session by REST.
func (s *stage) session(id string) map[string]any {
	s.Helper()
	status, body := s.rest("GET", "/calls/"+s.domain.Name+"/sessions/"+token(id), nil)
	var session map[string]any
	if status != http.StatusOK || json.Unmarshal([]byte(body), &session) != nil {
		s.Fatalf("session %s: %d %s", id, status, body)
	}
	return session
}

// becomes polls the session until the field has the value.
func (s *stage) becomes(id, field string, want any) map[string]any {
	s.Helper()
	var session map[string]any
	s.eventually(fmt.Sprintf("%s = %v", field, want), func() bool {
		session = s.session(id)
		return session[field] == want
	}, func() string { return fmt.Sprint(session) })
	return session
}

// eventually polls cond within the scenario's patience.
func (s *stage) eventually(what string, cond func() bool, state func() string) {
	s.Helper()
	ctx := s.within(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("never: %s; at last: %s", what, state())
		}
	}
}

// settle checks what holds at the end of every scenario: every session that
// began has ended in exactly one sessionCompleted, and shows as past.
func (s *stage) settle() {
	s.Helper()
	sessions := make(map[string]bool)
	for _, c := range s.app.All(func(*sink.Callback) bool { return true }) {
		if c.Session() != "" {
			sessions[c.Session()] = true
		}
	}
	for id := range sessions {
		first, err := s.app.Await(s.within(patience), 1, sink.Of("sessionCompleted").In(id))
		s.must(err)
		for _, c := range s.app.All(sink.Of("sessionCompleted").In(id)) {
			if c.Text("httpTransactionId") != first.Text("httpTransactionId") {
				s.Errorf("session %s completed twice", id)
			}
		}
		for _, c := range s.app.All(func(c *sink.Callback) bool { return c.Session() == id && c.Kind != "alarms" }) {
			if c.Seq > first.Seq && c.Kind != "sessionCompleted" {
				s.Errorf("%s of session %s came after its sessionCompleted", c.Kind, id)
			}
		}
		s.eventually("session "+id+" is past", func() bool { return s.session(id)["callEndTime"] != nil }, func() string { return "" })
	}
	for _, v := range s.app.Violations() {
		s.Errorf("callback: %s", v)
	}
}
