package lane_test

import (
	"strings"
	"testing"

	"github.com/callmesh/callmesh/sessiond/internal/lane"
)

func TestFit(t *testing.T) {
	long := `"` + strings.Repeat("x", lane.MaxBody) + `"`
	for _, c := range []struct {
		name, body, want string
		ok               bool
	}{
		{"short", `{"b": 1, "sessionReferenceId":{}}`, `{"b": 1, "sessionReferenceId":{}}`, true},
		{"long reference", `{"b":12345678901234567890,"sessionReferenceId":` + long + `,"a":{}}`, `{"a":{},"b":12345678901234567890}`, true},
		{"long details", `{"errorDetails":` + long + `,"error":"phraseError"}`, `{"error":"phraseError"}`, true},
		{"long elsewhere", `{"other":` + long + `}`, "", false},
		{"no JSON", strings.Repeat("x", lane.MaxBody+1), "", false},
	} {
		e, ok := lane.Fit(lane.Entry{ID: "1", Body: []byte(c.body)})
		if ok != c.ok || ok && string(e.Body) != c.want || e.ID != "1" {
			t.Errorf("%s: %t, %d bytes", c.name, ok, len(e.Body))
		}
	}
}
