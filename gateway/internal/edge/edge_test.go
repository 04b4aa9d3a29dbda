package edge_test

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/fault"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	h := open(t)
	const session = "/calls/" + domain + "/sessions/" + token
	const media = "/mediaservice/" + domain
	badRequest := func(reason string) string {
		return `{"success":false,"reason":"` + reason + `","error":"badRequest"}`
	}
	const unauthorized, forbidden = `{"message":"Unauthorized"}`, `{"message":"Forbidden"}`
	for name, tc := range map[string]struct {
		method, path, key, body string
		header                  []string
		status                  int
		want                    string
	}{
		"hang up":                    {"POST", media + "/hangupcall", "demo-secret", `{"replyId":"r","other":[1]}`, nil, 200, `{"success":true}`},
		"hang up, jwt twin":          {"POST", media + "/hangupcalljwt", "demo-secret", `{"replyId":"r"}`, nil, 200, `{"success":true}`},
		"hang up, bare":              {"POST", "/" + domain + "/hangupcall", "demo-secret", `{"replyId":"r"}`, nil, 200, `{"success":true}`},
		"hang up, bare jwt twin":     {"POST", "/" + domain + "/hangupcalljwt", "demo-secret", `{"replyId":"r"}`, nil, 200, `{"success":true}`},
		"interrupt":                  {"POST", media + "/interruptivrcommand", "demo-secret", `{"replyId":"r","sessionId":"s"}`, nil, 200, `{"success":true}`},
		"interrupt, bare":            {"POST", "/" + domain + "/interruptivrcommand", "demo-secret", `{"replyId":"r","sessionId":"s"}`, nil, 200, `{"success":true}`},
		"any domain for *":           {"POST", "/mediaservice/other.test/hangupcall", "admin-secret", `{"replyId":"r"}`, nil, 200, `{"success":true}`},
		"list":                       {"GET", media + "/promptfile", "demo-secret", "", nil, 200, `{"next":"Y3Vyc29y","success":true,"files":[{"name":"menu.wav","size":48044},{"name":"welcome.wav","size":9007199254740000}]}`},
		"list, last page":            {"GET", media + "/promptfile?next=Y3Vyc29y", "demo-secret", "", nil, 200, `{"next":null,"success":true,"files":[]}`},
		"list, bare":                 {"GET", "/" + domain + "/promptfile?next=a&unknown=b", "demo-secret", "", nil, 200, `{"next":null,"success":true,"files":[]}`},
		"delete what is not":         {"DELETE", media + "/promptfile/no.wav", "demo-secret", "", nil, 200, `{"success":false,"reason":"there is no file no.wav","error":"promptNotFound"}`},
		"session":                    {"GET", session, "demo-secret", "", nil, 200, `{"id":9007199254740991,"domainId":12,"domain":{"tenantId":1,"domain":"demo.callmesh.test","profile":{"x": 12345678901234567890},"active":true,"application":null,"aliases":["demo"]},"subscriberId":null,"destination":"1000","callerId":"+46850510","direction":"incoming","token":"018f3a7c9d4e7b12a5c60f1e2d3c4b5a","timeLimit":null,"profile":{"sip-headers":{"Plan":"gold \u003c"}},"callStartTime":1767225600123,"callAnswerTime":1767225601456,"callEndTime":null,"startTime":"2026-01-01T00:00:00.123Z","answerTime":"2026-01-01T00:00:01.456Z","endTime":null,"callback":null,"routes":null,"status":"connected","createdAt":"2026-01-01T00:00:00.120Z","modifiedAt":"2026-01-01T00:00:01.456Z","lastError":null}`},
		"no such session":            {"GET", "/calls/" + domain + "/sessions/abc", "demo-secret", "", nil, 404, `{"status":404,"message":"session abc not found"}`},
		"field missing":              {"POST", media + "/hangupcall", "demo-secret", `{}`, nil, 400, badRequest("replyId is required")},
		"no body":                    {"POST", media + "/hangupcall", "demo-secret", ``, nil, 400, badRequest("request body is empty, a JSON object is expected")},
		"wrong type":                 {"POST", media + "/hangupcall", "demo-secret", `{"replyId":5}`, nil, 400, badRequest("replyId must be a string")},
		"no JSON":                    {"POST", media + "/hangupcall", "demo-secret", `{"replyId":`, nil, 400, badRequest("request body is not JSON: error at byte 11")},
		"no object":                  {"POST", media + "/hangupcall", "demo-secret", `[]`, nil, 400, badRequest("request body must be an object")},
		"trailing text":              {"POST", media + "/hangupcall", "demo-secret", `{"replyId":"r"} x`, nil, 400, badRequest("request body is not JSON: error at byte 17")},
		"no UTF-8":                   {"POST", media + "/hangupcall", "demo-secret", "{\"replyId\":\"\xff\"}", nil, 400, badRequest("request body is not UTF-8")},
		"not JSON by its type":       {"POST", media + "/hangupcall", "demo-secret", `<x/>`, []string{"Content-Type", "text/xml"}, 415, `{"message":"Unsupported Media Type"}`},
		"JSON by its type":           {"POST", media + "/hangupcall", "demo-secret", `{"replyId":"r"}`, []string{"Content-Type", "application/json; charset=utf-8"}, 200, `{"success":true}`},
		"body too large":             {"POST", media + "/hangupcall", "demo-secret", `{"replyId":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, `{"success":false,"reason":"request body is larger than 1048576 bytes","error":"tooLarge"}`},
		"no key":                     {"POST", media + "/hangupcall", "", `{}`, nil, 401, unauthorized},
		"wrong key":                  {"POST", media + "/hangupcall", "guess", `{}`, nil, 401, unauthorized},
		"two keys":                   {"POST", media + "/hangupcall", "demo-secret", `{}`, []string{"Authorization", "Bearer demo-secret"}, 401, unauthorized},
		"scheme in lower case":       {"POST", media + "/hangupcall", "", `{"replyId":"r"}`, []string{"Authorization", "bearer demo-secret"}, 200, `{"success":true}`},
		"another scheme":             {"POST", media + "/hangupcall", "", `{"replyId":"r"}`, []string{"Authorization", "Basic ZGVtbzpkZW1v"}, 401, unauthorized},
		"wrong domain":               {"POST", "/mediaservice/other.test/hangupcall", "demo-secret", `{"replyId":"r"}`, nil, 403, forbidden},
		"wrong role":                 {"POST", media + "/hangupcall", "weak-secret", `{"replyId":"r"}`, nil, 403, forbidden},
		"session, no key":            {"GET", session, "", "", nil, 401, `{"status":401,"message":"credential is missing or invalid"}`},
		"session, wrong domain":      {"GET", "/calls/other.test/sessions/" + token, "demo-secret", "", nil, 401, `{"status":401,"message":"credential is not valid for this domain"}`},
		"session, wrong role":        {"GET", session, "weak-secret", "", nil, 401, `{"status":401,"message":"not allowed"}`},
		"unknown path":               {"GET", media + "/nothing", "demo-secret", "", nil, 404, `{"message":"Not Found"}`},
		"unknown path, no key":       {"GET", media + "/nothing", "", "", nil, 404, `{"message":"Not Found"}`},
		"unknown first segment":      {"GET", "/nothing/here", "demo-secret", "", nil, 404, `{"message":"Not Found"}`},
		"digits are no domain":       {"POST", "/10.20/hangupcall", "demo-secret", `{}`, nil, 404, `{"message":"Not Found"}`},
		"no domain after the prefix": {"GET", "/mediaservice/promptfile", "demo-secret", "", nil, 404, `{"message":"Not Found"}`},
		"session, unknown path":      {"GET", "/calls/" + domain + "/nothing", "demo-secret", "", nil, 404, `{"status":404,"message":"Not Found"}`},
		"session, trailing slash":    {"GET", session + "/", "demo-secret", "", nil, 404, `{"status":404,"message":"Not Found"}`},
		"wrong method":               {"GET", media + "/hangupcall", "demo-secret", "", nil, 405, `{"message":"Method Not Allowed"}`},
		"session, wrong method":      {"POST", session, "demo-secret", "{}", nil, 405, `{"status":405,"message":"Method Not Allowed"}`},
		"method override":            {"POST", media + "/promptfile", "demo-secret", "", []string{"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded"}, 405, `{"message":"Method Not Allowed"}`},
		"path is no UTF-8":           {"GET", "/calls/" + domain + "/sessions/%ff", "demo-secret", "", nil, 400, `{"status":400,"message":"path or query is not UTF-8"}`},
		"query is no UTF-8":          {"GET", media + "/promptfile?next=%ff", "demo-secret", "", nil, 400, badRequest("path or query is not UTF-8")},
		"query is malformed":         {"GET", media + "/promptfile?next=%zz", "demo-secret", "", nil, 400, badRequest("malformed request")},
		"query names a field twice":  {"GET", media + "/promptfile?next=a&next=b", "demo-secret", "", nil, 400, badRequest("malformed request")},
		"tag is no UTF-8":            {"GET", media + "/promptfile/no.wav", "demo-secret", "", []string{"If-None-Match", "\"\xff\""}, 404, `{"success":false,"reason":"there is no file no.wav","error":"promptNotFound"}`},
		"file that is not":           {"GET", media + "/promptfile/no.wav", "demo-secret", "", nil, 404, `{"success":false,"reason":"there is no file no.wav","error":"promptNotFound"}`},
		"empty file":                 {"PUT", media + "/promptfile/no.wav", "demo-secret", "", nil, 400, `{"success":false,"reason":"the file is empty","error":"promptInvalid"}`},
		"bad file name":              {"PUT", media + "/promptfile/.no", "demo-secret", "x", nil, 400, badRequest("filename must not begin with a dot")},
		"file of another domain":     {"PUT", "/mediaservice/other.test/promptfile/a.wav", "demo-secret", "x", nil, 403, forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, got := h.request(t, tc.method, tc.path, tc.key, tc.body, tc.header...)
			if status != tc.status || got != tc.want {
				t.Errorf("got %d %s\nwant %d %s", status, got, tc.status, tc.want)
			}
		})
	}
}

func TestEveryReasonInEachDialectOverTheWire(t *testing.T) {
	h := open(t)
	for reason := range fault.Codes {
		h.sessiond.failWith(fault.New(reason, "said to the client").Because(http.ErrServerClosed))
		for path, shape := range map[string]string{
			"/mediaservice/" + domain + "/interruptivrcommand": `{"success":false,"reason":`,
			"/calls/" + domain + "/sessions/x":                 `{"status":`,
		} {
			method, body := "POST", "{}"
			if strings.HasPrefix(path, "/calls/") {
				method, body = "GET", ""
			}
			_, header, got := h.request(t, method, path, "demo-secret", body)
			if !strings.HasPrefix(got, shape) && !strings.HasPrefix(got, `{"message":`) || header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %s", reason, path, got)
			}
			if strings.Contains(got, "http:") || (reason == fault.Internal && strings.Contains(got, "said")) {
				t.Errorf("%s %s shows internal text: %s", reason, path, got)
			}
		}
	}
}

func TestPathsAreUnescapedOnce(t *testing.T) {
	h := open(t)
	for sent, want := range map[string]string{"a%2Fb": "a/b", "a%252Fb": "a%2Fb", "%41": "A", "%2541": "%41", "a+b": "a+b", "a%20b:c": "a b:c"} {
		h.request(t, "GET", "/calls/"+domain+"/sessions/"+sent, "demo-secret", "")
		if got := h.sessiond.last(t).(*callspb.GetSessionRequest).GetToken(); got != want {
			t.Errorf("%s arrived as %q, want %q", sent, got, want)
		}
	}
}

func TestDomainOfTheBodyIsOverruledByThePath(t *testing.T) {
	h := open(t)
	h.request(t, "POST", "/mediaservice/"+domain+"/hangupcall", "demo-secret", `{"replyId":"r","domain":"other.test"}`)
	if got := h.sessiond.last(t).(*mediaservicepb.HangUpCallRequest).GetDomain(); got != domain {
		t.Errorf("domain %q", got)
	}
}

func TestAllow(t *testing.T) {
	h := open(t)
	for path, want := range map[string]string{
		"/mediaservice/" + domain + "/hangupcall":       "POST, OPTIONS",
		"/" + domain + "/promptfile":                    "GET, OPTIONS",
		"/mediaservice/" + domain + "/promptfile/x.wav": "DELETE, GET, PUT, OPTIONS",
		"/calls/" + domain + "/sessions/x":              "GET",
	} {
		status, header, _ := h.request(t, "PATCH", path, "", "")
		if status != 405 || header.Get("Allow") != want {
			t.Errorf("%s: %d, Allow %q, want %q", path, status, header.Get("Allow"), want)
		}
	}
}

func TestPreflight(t *testing.T) {
	h := open(t)
	for path, want := range map[string]string{
		"/mediaservice/" + domain + "/hangupcalljwt":     "POST,OPTIONS",
		"/" + domain + "/promptfile/x.wav":               "DELETE,GET,PUT,OPTIONS",
		"/mediaservice/unknown.test/interruptivrcommand": "POST,OPTIONS",
	} {
		status, header, body := h.request(t, "OPTIONS", path, "", "")
		if status != 200 || body != "{}" || header.Get("Access-Control-Allow-Methods") != want || header.Get("Access-Control-Allow-Origin") != "*" ||
			header.Get("Access-Control-Allow-Headers") != "Content-Type,Authorization,X-Amz-Date,X-Amz-Security-Token,X-Api-Key" {
			t.Errorf("%s: %d %s %v", path, status, body, header)
		}
	}
	if status, _, _ := h.request(t, "OPTIONS", "/mediaservice/"+domain+"/nothing", "", ""); status != 404 {
		t.Errorf("unknown path: %d", status)
	}
	// No other family lets any origin in.
	if _, header, _ := h.request(t, "GET", "/calls/"+domain+"/sessions/x", "demo-secret", ""); header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("cloudonix answers with Access-Control-Allow-Origin")
	}
}

func TestAKeyIsLookedUpOnceForAWhile(t *testing.T) {
	h := open(t)
	for range 5 {
		h.request(t, "GET", "/calls/"+domain+"/sessions/"+token, "demo-secret", "")
		h.request(t, "GET", "/calls/"+domain+"/sessions/"+token, "guess", "")
	}
	if h.sessiond.verified != 2 {
		t.Errorf("directory asked %d times, want once for each key", h.sessiond.verified)
	}
}

func TestClientsSetNoMetadataOfTheMesh(t *testing.T) {
	h := open(t)
	status, _, body := h.request(t, "GET", "/calls/"+domain+"/sessions/"+token, "demo-secret", "",
		"Grpc-Metadata-Callmesh-Principal", "forged", "Grpc-Timeout", "1n", "Callmesh-Principal", "forged")
	if status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

func TestLogHoldsNoCredentials(t *testing.T) {
	h := open(t)
	h.request(t, "GET", "/mediaservice/"+domain+"/promptfile?next=query-secret", "demo-secret", "", "X-Request-Id", "req-1")
	_, header, _ := h.request(t, "GET", "/mediaservice/"+domain+"/promptfile", "guessed-secret", "", "X-Request-Id", "bad id\t")
	h.stop()
	log := h.log.String()
	if strings.Contains(log, "secret") {
		t.Errorf("log shows a secret:\n%s", log)
	}
	for _, want := range []string{`"request":"req-1"`, `"key":"demo"`, `"route":"/mediaservice/{domain}/promptfile"`, `"reason":"UNAUTHENTICATED"`} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %s:\n%s", want, log)
		}
	}
	if id := header.Get("X-Request-Id"); len(id) != 24 {
		t.Errorf("request id %q was not made anew", id)
	}
}
