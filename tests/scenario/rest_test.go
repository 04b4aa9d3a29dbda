package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

func rest() []scenario {
	return []scenario{
		{name: "prompt-files", play: promptFiles},
		{name: "prompt-pages", play: promptPages},
		{name: "cors", play: cors},
		{name: "keys", play: keys},
		{name: "strange-paths", play: strangePaths},
		{name: "hangup-before-answer", play: hangupBeforeAnswer},
		{name: "hangup-after-answer", play: hangupAfterAnswer},
		{name: "foreign-reply-id", play: foreignReplyID},
		{name: "bad-bodies", play: badBodies},
		{name: "sessions", play: sessions},
		{name: "openapi", play: openAPI},
	}
}

func promptFiles(s *stage) {
	wav := phone.WAV(phone.Tone(low, time.Second))
	file := s.media("promptfile/greeting.wav")
	if r := s.do("GET", file, s.domain.Key, nil); r.status != http.StatusNotFound {
		s.Errorf("absent file: %d %s", r.status, r.body)
	}
	if status, body := s.rest("PUT", file, wav); status != 200 || body != `{"success":true}` {
		s.Errorf("PUT: %d %s", status, body)
	}
	r := s.do("GET", file, s.domain.Key, nil)
	if r.status != 200 || !bytes.Equal(r.body, wav) || !strings.HasPrefix(r.header.Get("Content-Type"), "audio/") {
		s.Errorf("GET: %d, %d bytes of %s, want %d", r.status, len(r.body), r.header.Get("Content-Type"), len(wav))
	}
	if status, body := s.rest("GET", s.media("promptfile"), nil); status != 200 || !sameJSON(body, fmt.Sprintf(`{"success":true,"next":null,"files":[{"name":"greeting.wav","size":%d}]}`, len(wav))) {
		s.Errorf("list: %d %s", status, body)
	}
	shorter := phone.WAV(phone.Tone(low, time.Second/2))
	if status, _ := s.rest("PUT", file, shorter); status != 200 {
		s.Errorf("overwrite: %d", status)
	}
	if r := s.do("GET", file, s.domain.Key, nil); !bytes.Equal(r.body, shorter) {
		s.Errorf("after overwrite: %d bytes, want %d", len(r.body), len(shorter))
	}
	if status, body := s.rest("DELETE", file, nil); status != 200 || body != `{"success":true}` {
		s.Errorf("DELETE: %d %s", status, body)
	}
	if status, body := s.rest("DELETE", file, nil); status != 200 || !strings.Contains(body, `"success":false`) {
		s.Errorf("DELETE again: %d %s", status, body)
	}
	for _, name := range []string{".hidden", "a%2Fb", "a%20b", strings.Repeat("x", 256), "%2e%2e"} {
		if status, body := s.rest("PUT", s.media("promptfile/"+name), wav); status != http.StatusBadRequest {
			s.Errorf("PUT %.20s: %d %s", name, status, body)
		}
	}
	if status, body := s.rest("GET", "/"+s.domain.Name+"/promptfile", nil); status != 200 {
		s.Errorf("the bare path of the vendor's page: %d %s", status, body)
	}
}

func promptPages(s *stage) {
	const files = 101 // a page holds 100
	wav := phone.WAV(phone.Tone(low, 20*time.Millisecond))
	for i := range files {
		if status, body := s.rest("PUT", s.media(fmt.Sprintf("promptfile/p%03d.wav", i)), wav); status != 200 {
			s.Fatalf("PUT: %d %s", status, body)
		}
	}
	var names []string
	next := ""
	for {
		var page struct {
			Next  *string
			Files []struct{ Name string }
		}
		_, body := s.rest("GET", s.media("promptfile?next="+next), nil)
		s.must(json.Unmarshal([]byte(body), &page))
		for _, f := range page.Files {
			names = append(names, f.Name)
		}
		if page.Next == nil || len(names) > files {
			break
		}
		next = *page.Next
	}
	if len(names) != files || names[0] != "p000.wav" || names[files-1] != "p100.wav" {
		s.Errorf("%d names: %v", len(names), names)
	}
}

// sameJSON compares JSON texts by value.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

func cors(s *stage) {
	for path, methods := range map[string][]string{
		"hangupcall": {"POST"}, "hangupcalljwt": {"POST"}, "interruptivrcommand": {"POST"}, "promptfile/x.wav": {"GET", "PUT", "DELETE"},
	} {
		r := s.do("OPTIONS", s.media(path), "", nil)
		if r.status != 200 || strings.TrimSpace(string(r.body)) != "{}" || r.header.Get("Access-Control-Allow-Origin") != "*" {
			s.Errorf("OPTIONS %s: %d %s %v", path, r.status, r.body, r.header)
		}
		allowed := r.header.Get("Access-Control-Allow-Methods")
		for _, m := range append(methods, "OPTIONS") {
			if !strings.Contains(allowed, m) {
				s.Errorf("OPTIONS %s allows %q, not %s", path, allowed, m)
			}
		}
		if h := r.header.Get("Access-Control-Allow-Headers"); !strings.Contains(h, "Authorization") {
			s.Errorf("OPTIONS %s allows the headers %q", path, h)
		}
	}
	if r := s.do("GET", s.media("promptfile"), s.domain.Key, nil); r.header.Get("Access-Control-Allow-Origin") != "*" {
		s.Errorf("GET without Access-Control-Allow-Origin: %v", r.header)
	}
	if r := s.do("GET", "/calls/"+s.domain.Name+"/sessions/0", s.domain.Key, nil); r.header.Get("Access-Control-Allow-Origin") != "" {
		s.Error("Access-Control-Allow-Origin outside of the mediaservice family")
	}
}

func keys(s *stage) {
	media, calls := s.media("promptfile"), "/calls/"+s.domain.Name+"/sessions/01913f3e9c6d7a40b1b20123456789ab"
	for _, tc := range []struct {
		path, key string
		status    int
		body      string
	}{
		{media, "", 401, `{"message":"Unauthorized"}`},
		{media, "wrong-key", 401, `{"message":"Unauthorized"}`},
		{media, s.neighbour.Key, 403, `{"message":"Forbidden"}`},
		{calls, "", 401, `{"status":401`},
		{calls, "wrong-key", 401, `{"status":401`},
		{calls, s.neighbour.Key, 401, `{"status":401`},
		{calls, s.domain.Key, 404, `{"status":404`},
	} {
		r := s.do("GET", tc.path, tc.key, nil)
		if r.status != tc.status || !strings.HasPrefix(string(r.body), tc.body) {
			s.Errorf("GET %s with %q: %d %s, want %d %s", tc.path, tc.key, r.status, r.body, tc.status, tc.body)
		}
	}
	if r := s.do("POST", s.media("hangupcall"), "wrong-key", []byte(`{"replyId":"x"}`)); r.status != 401 {
		s.Errorf("hangupcall with a wrong key: %d %s", r.status, r.body)
	}
}

func strangePaths(s *stage) {
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"POST", s.media("makecoffee"), 404, `{"message":"Not Found"}`},
		{"DELETE", s.media("hangupcall"), 405, `{"message":"Method Not Allowed"}`},
		{"GET", "/calls/" + s.domain.Name + "/coffee", 404, `{"status":404`},
		{"PUT", "/calls/" + s.domain.Name + "/sessions/1", 405, `{"status":405`},
	} {
		r := s.do(tc.method, tc.path, s.domain.Key, nil)
		if r.status != tc.status || !strings.HasPrefix(string(r.body), tc.body) {
			s.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.path, r.status, r.body, tc.status, tc.body)
		}
	}
}

func hangupBeforeAnswer(s *stage) {
	s.app.Script("newCall", s.app.Slow(time.Minute, sink.IVR()))
	l := s.phone(phone.Config{}).dial(phone.Options{})
	c := s.nth(1, "newCall")
	if !s.post("hangupcall", sink.Object{"replyId": c.Text("replyId")}) {
		s.Error("hangupcall refused")
	}
	l.refused(486)
	s.completed("hangup")
}

func hangupAfterAnswer(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	l := s.call()
	l.hears(low)
	id := s.command(1).Text("replyId")
	if !s.post("hangupcalljwt", sink.Object{"replyId": id}) { // the twin of hangupcall
		s.Error("hangupcall refused")
	}
	l.ends()
	s.completed("hangup")
	if s.post("hangupcall", sink.Object{"replyId": id}) {
		s.Error("a call that is over was hung up")
	}
}

// foreignReplyID uses the replyId of one domain with the key of another.
func foreignReplyID(s *stage) {
	s.commands(say(s.prompt("long.wav", low, 30*time.Second)))
	l := s.call()
	l.hears(low)
	c := s.command(1)
	body, err := json.Marshal(sink.Object{"replyId": c.Text("replyId"), "sessionId": c.Session()})
	s.must(err)
	for _, operation := range []string{"hangupcall", "interruptivrcommand"} {
		r := s.do("POST", "/mediaservice/"+s.neighbour.Name+"/"+operation, s.neighbour.Key, body)
		if r.status != 200 || !strings.Contains(string(r.body), `"success":false`) {
			s.Errorf("%s by another domain: %d %s", operation, r.status, r.body)
		}
	}
	r := s.do("GET", "/calls/"+s.neighbour.Name+"/sessions/"+token(c.Session()), s.neighbour.Key, nil)
	if r.status != 404 {
		s.Errorf("another domain's session: %d %s", r.status, r.body)
	}
	l.hears(low)
	l.hangsUp()
}

func badBodies(s *stage) {
	for _, tc := range []struct{ operation, body, field string }{
		{"hangupcall", `{`, ""},
		{"hangupcall", `[]`, ""},
		{"hangupcall", `{}`, "replyId"},
		{"hangupcall", `{"replyId":42}`, "replyId"},
		{"interruptivrcommand", `{"replyId":"x"}`, "sessionId"},
	} {
		status, answer := s.rest("POST", s.media(tc.operation), []byte(tc.body))
		if status != http.StatusBadRequest || !strings.Contains(answer, `"success":false`) || !strings.Contains(answer, `"badRequest"`) || !strings.Contains(answer, tc.field) {
			s.Errorf("%s %s: %d %s", tc.operation, tc.body, status, answer)
		}
	}
	if s.post("hangupcall", sink.Object{"replyId": "not-a-token", "unknownField": 1}) {
		s.Error("a made-up replyId succeeded")
	}
}

// sessions reads a session through its life.
func sessions(s *stage) {
	s.app.Script("newCall", s.app.Slow(500*time.Millisecond, sink.IVR()))
	s.app.Script("getIvrCommand", sink.JSON(say(s.prompt("long.wav", low, 30*time.Second))))
	h := s.phone(phone.Config{User: "+46701112233"})
	l := h.dial(phone.Options{})
	id := s.nth(1, "newCall").Session()
	early := s.session(id)
	if status := early["status"]; status != "new" && status != "processing" || early["callAnswerTime"] != nil {
		s.Errorf("before the answer: %v", early)
	}
	l.answered()
	live := s.becomes(id, "status", "connected")
	if live["callerId"] != "+46701112233" || live["destination"] != s.number() {
		s.Errorf("live: %v", live)
	}
	l.hangsUp()
	past := s.becomes(id, "status", "answer")
	for _, field := range []string{"id", "domainId", "subscriberId", "callStartTime", "callAnswerTime", "callEndTime", "startTime", "answerTime",
		"endTime", "createdAt", "modifiedAt", "timeLimit", "profile", "callback", "routes", "lastError", "domain"} {
		if _, ok := past[field]; !ok {
			s.Errorf("past session without %s", field)
		}
	}
	if start, end := past["callStartTime"].(float64), past["callEndTime"].(float64); end < start || past["id"].(float64) <= 0 {
		s.Errorf("past: %v", past)
	}
	if status, body := s.rest("GET", "/calls/self/sessions/"+token(id), nil); status != 200 {
		s.Errorf("by self: %d %s", status, body)
	}
	if status, body := s.rest("GET", "/calls/"+s.domain.Name+"/sessions/not-a-token", nil); status != 404 {
		s.Errorf("odd token: %d %s", status, body)
	}
}

func openAPI(s *stage) {
	r := s.do("GET", "/docs/openapi.json", "", nil)
	var doc struct{ Paths map[string]any }
	if r.status != 200 || json.Unmarshal(r.body, &doc) != nil || len(doc.Paths) < 5 {
		s.Fatalf("openapi: %d, %d paths", r.status, len(doc.Paths))
	}
	if r := s.do("GET", "/docs/", "", nil); r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
		s.Errorf("/docs/: %d %s", r.status, r.header.Get("Content-Type"))
	}
}
