package sink

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const session = "01913f3e-9c6d-7a40-b1b2-0123456789ab"

func start(t *testing.T) *Sink {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// valid returns a callback of the kind that keeps the contract.
func valid(kind string) Object {
	body := Object{
		"sessionId": session, "replyId": "r", "traceId": session, "httpTransactionId": session, "ivrServer": "127.0.0.1",
	}
	maps.Copy(body, map[string]Object{
		"newCall": {"sipCallId": "1@h", "callingPartyPrivacy": "public", "callingParty": "alice", "calledParty": "1000", "srcAddr": "::1",
			"xHeaders": Object{"X-A": "1", "X-B": []string{"1", "2"}}},
		"getIvrCommand":    {"dtmfParams": Object{"dtmfMatch": "12", "reason": "terminationKey", "matchedTerminationKey": "#"}},
		"sessionCompleted": {"domain": "d.test", "sessionDuration": "42", "reason": "hangup", "sessionReferenceId": []int{1}},
		"alarms":           {"type": "callEventError", "error": "Invalid sip address: x", "domain": "d.test"},
	}[kind])
	return body
}

func post(t *testing.T, url string, body any) (int, string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", strings.NewReader(string(text)))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(answer)
}

func TestScriptsCountPerSession(t *testing.T) {
	s := start(t)
	s.Script("getIvrCommand", JSON(Object{"n": 1}), JSON(Object{"n": 2}))
	other := valid("getIvrCommand")
	other["sessionId"] = strings.Replace(session, "0", "f", 1)
	for i, want := range []string{`{"n":1}`, `{"n":2}`, `{"n":2}`} {
		if status, answer := post(t, s.URL()+"/getIvrCommand", valid("getIvrCommand")); status != 200 || answer != want {
			t.Errorf("answer %d: %d %s", i, status, answer)
		}
	}
	if _, answer := post(t, s.URL()+"/getIvrCommand", other); answer != `{"n":1}` {
		t.Errorf("another session got %s", answer)
	}
	if n := len(s.All(Of("getIvrCommand").In(session))); n != 3 {
		t.Errorf("%d callbacks of the session", n)
	}
	if v := s.Violations(); v != nil {
		t.Error(v)
	}
}

func TestContract(t *testing.T) {
	for _, tc := range []struct {
		kind   string
		change func(Object)
		want   string // "" is fine
	}{
		{"newCall", func(Object) {}, ""},
		{"getIvrCommand", func(Object) {}, ""},
		{"sessionCompleted", func(Object) {}, ""},
		{"alarms", func(Object) {}, ""},
		{"newCall", func(o Object) { delete(o, "replyId") }, "replyId is missing"},
		{"newCall", func(o Object) { o["sessionId"] = "42" }, "sessionId must be a UUID"},
		{"newCall", func(o Object) { o["srcAddr"] = "h:5060" }, "srcAddr must be an IP address"},
		{"newCall", func(o Object) { o["xHeaders"] = Object{"X-A": 1} }, "X-A must be a string or"},
		{"newCall", func(o Object) { o["subject"] = nil }, "subject must be a string"},
		{"newCall", func(o Object) { o["surprise"] = 1 }, "surprise is not in the contract"},
		{"sessionCompleted", func(o Object) { o["sessionDuration"] = 42 }, "sessionDuration must be whole seconds"},
		{"sessionCompleted", func(o Object) { o["reason"] = "tired" }, "reason must be one of"},
		{"getIvrCommand", func(o Object) { o["dtmfParams"] = Object{"dtmfMatch": "1", "reason": "terminationKey"} }, "matchedTerminationKey goes with"},
		{"alarms", func(o Object) { o["error"] = "maxDuration" }, "does not belong to alarm type"},
		{"alarms", func(o Object) { o["type"] = "odd" }, "not in the contract"},
		{"newcall", func(Object) {}, "no such callback"},
	} {
		s := start(t)
		body := valid(tc.kind)
		tc.change(body)
		post(t, s.URL()+"/"+tc.kind, body)
		got := strings.Join(s.Violations(), "\n")
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: want %q, got %q", tc.kind, tc.want, got)
		}
	}
}

func TestMadApplications(t *testing.T) {
	s := start(t)
	s.Script("newCall", Garbage(), Fail(500), Reset(), Redirect("http://127.0.0.1:1/elsewhere"), Huge(3<<20), s.Never())
	if status, answer := post(t, s.URL()+"/newCall", valid("newCall")); status != 200 || json.Valid([]byte(answer)) {
		t.Errorf("garbage: %d %s", status, answer)
	}
	if status, _ := post(t, s.URL()+"/newCall", valid("newCall")); status != 500 {
		t.Errorf("fail: %d", status)
	}
	if status, answer := post(t, s.URL()+"/newCall", valid("newCall")); status != 0 {
		t.Errorf("reset: %d %s", status, answer)
	}
	if _, answer := post(t, s.URL()+"/newCall", valid("newCall")); !strings.Contains(answer, "127.0.0.1:1") {
		t.Errorf("redirect was not followed by a client that follows them: %s", answer)
	}
	if status, answer := post(t, s.URL()+"/newCall", valid("newCall")); status != 200 || len(answer) < 3<<20 || !json.Valid([]byte(answer)) {
		t.Errorf("huge: %d, %d bytes", status, len(answer))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/newCall", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	// {} has no session, so the script starts again; what matters is the clock.
	s.Script("newCall", s.Never())
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("never answered")
	}
}

func TestAwait(t *testing.T) {
	s := start(t)
	got := make(chan error, 1)
	go func() {
		c, err := s.Await(t.Context(), 2, Of("alarms").With("type", "callEventError"))
		if err == nil && c.Seq != 2 {
			t.Errorf("second alarm is callback %d", c.Seq)
		}
		got <- err
	}()
	post(t, s.Alarms(), valid("alarms"))
	post(t, s.Alarms(), valid("alarms"))
	if err := <-got; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Await(ctx, 3, Of("alarms")); err == nil || !strings.Contains(err.Error(), "alarms(Invalid sip address: x)") {
		t.Errorf("error does not tell what there was: %v", err)
	}
}
