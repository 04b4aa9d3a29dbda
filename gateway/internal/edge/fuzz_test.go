package edge_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/callmesh/callmesh/gateway/internal/edge"
)

// Whatever the path, the method and the body: an answer of a documented shape,
// and never one that blames us.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{
		"/", "//", "/docs", "/docs/../calls", "/healthz", "/calls", "/calls//sessions/", "/calls/a.test/sessions/%2f%2e%2e", "/mediaservice/a.test/hangupcall",
		"/a.test/promptfile/x:y", "/a.test/promptfile?next=%zz", "/a.test/promptfile?next=a&next=b", "/mediaservice/a.test/promptfile/%00", "/.../x", "/a.test/hangupcall?domain=b.test",
	} {
		f.Add("GET", path, "")
		f.Add("POST", path, `{"replyId":"r"}`)
	}
	f.Add("PUT", "/a.test/promptfile/x", "RIFF")
	f.Add("OPTIONS", "/a.test/promptfile/x", "")
	handler, _ := bareHandler(f)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || !strings.HasPrefix(target, "/") || !token7230(method) {
			t.Skip("net/http refuses it before us")
		}
		r := &http.Request{
			Method: method, URL: u, Host: "api.test", Header: http.Header{"Authorization": {"Bearer admin-secret"}},
			Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1",
		}
		if body != "" {
			r.Body = edge.BodyOf(body)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(t.Context()))
		kind := w.Header().Get("Content-Type")
		if w.Code >= 500 {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		if kind == "" && (w.Code < 300 || w.Code > 399) {
			t.Fatalf("%s %s: %d without a content type", method, target, w.Code)
		}
		if w.Header().Get("X-Request-Id") == "" {
			t.Fatal("no request id")
		}
	})
}

// token7230 tells whether net/http would take the method (RFC 9110 §5.6.2).
func token7230(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r) }) < 0
}
