package dialect

import (
	"errors"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/callmesh/callmesh/kit/fault"
)

func families() map[string]*Family {
	return map[string]*Family{"mediaservice": Mediaservice(), "download": PromptDownload(), "cloudonix": Cloudonix()}
}

func TestEveryReasonHasARowInEachFamily(t *testing.T) {
	for name, f := range families() {
		for r := range fault.Codes {
			if _, ok := f.rows[r]; !ok {
				t.Errorf("%s cannot say %s", name, r)
			}
		}
		for r, row := range f.rows {
			if _, ok := fault.Codes[r]; !ok {
				t.Errorf("%s has a row for %s, which is no reason", name, r)
			}
			if row.status == 0 {
				t.Errorf("%s: %s has no status", name, r)
			}
			if name != "cloudonix" && !row.plain && row.code == "" {
				t.Errorf("%s: %s has no word", name, r)
			}
		}
	}
}

func TestWrite(t *testing.T) {
	ended := fault.New(fault.CallEnded, "the call has ended")
	plain := errors.New("dial tcp 10.0.0.7:6379: refused")
	for _, tc := range []struct {
		family string
		err    error
		status int
		body   string
	}{
		{"mediaservice", ended, 200, `{"success":false,"reason":"the call has ended","error":"callEnded"}`},
		{"mediaservice", status.Convert(ended).Err(), 200, `{"success":false,"reason":"the call has ended","error":"callEnded"}`},
		{"mediaservice", plain, 500, `{"success":false,"reason":"internal error","error":"internalError"}`},
		{"mediaservice", fault.New("NEW_REASON", "secret"), 500, `{"success":false,"reason":"internal error","error":"internalError"}`},
		{"mediaservice", fault.New(fault.DomainForbidden, "x"), 403, `{"message":"Forbidden"}`},
		{"mediaservice", fault.New(fault.Unauthenticated, "x"), 401, `{"message":"Unauthorized"}`},
		{"mediaservice", NotFound, 404, `{"message":"Not Found"}`},
		{"mediaservice", fault.New(fault.PromptNotFound, "no"), 200, `{"success":false,"reason":"no","error":"promptNotFound"}`},
		{"download", fault.New(fault.PromptNotFound, "no"), 404, `{"success":false,"reason":"no","error":"promptNotFound"}`},
		{"cloudonix", ended, 404, `{"status":404,"message":"the call has ended"}`},
		{"cloudonix", plain, 500, `{"status":500,"message":"internal error"}`},
		{"cloudonix", fault.New(fault.Forbidden, "not allowed"), 401, `{"status":401,"message":"not allowed"}`},
		{"cloudonix", MethodNotAllowed, 405, `{"status":405,"message":"Method Not Allowed"}`},
	} {
		w := httptest.NewRecorder()
		families()[tc.family].Write(w, tc.err)
		if w.Code != tc.status || w.Body.String() != tc.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s, %v: %d %s, want %d %s", tc.family, tc.err, w.Code, w.Body, tc.status, tc.body)
		}
		if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s, %v: WWW-Authenticate %q", tc.family, tc.err, w.Header().Get("WWW-Authenticate"))
		}
	}
	w := httptest.NewRecorder()
	Cloudonix().Write(w, fault.New(fault.Unavailable, "later"))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("unavailable: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}
