// Package dialect renders errors in the shapes that the REST families promise:
// one table of reasons a family, one small function for its body.
package dialect

import (
	"encoding/json"
	"net/http"

	"github.com/callmesh/callmesh/kit/fault"
)

// Family renders the errors of one REST family.
type Family struct {
	rows map[fault.Reason]row
	body func(row, string) any
}

// row is what a family says for one reason.
type row struct {
	status int
	// code is the family's own word for the reason, if it has words.
	code string
	// plain asks for the shape of an API gateway: the status text alone.
	plain bool
}

// Status makes an error of the edge itself, for which the mesh has no reason:
// an unknown path, a method or media type that is not allowed.
type Status struct {
	Code    int
	Message string
}

func (s Status) Error() string { return s.Message }

// The errors that the edge makes.
var (
	NotFound             = Status{http.StatusNotFound, "Not Found"}
	MethodNotAllowed     = Status{http.StatusMethodNotAllowed, "Method Not Allowed"}
	UnsupportedMediaType = Status{http.StatusUnsupportedMediaType, "Unsupported Media Type"}
)

// Write answers with err. What is neither a fault nor a Status is internal and
// says nothing about itself.
func (f *Family) Write(w http.ResponseWriter, err error) {
	status, body := f.render(err)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="callmesh"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // fails only when the client is gone
}

func (f *Family) render(err error) (int, any) {
	if s, ok := err.(Status); ok { //nolint:errorlint // made next to here, never wrapped
		return s.Code, f.body(row{status: s.Code, plain: true}, s.Message)
	}
	said := fault.From(err)
	r, ok := f.rows[said.Reason]
	if !ok {
		r = f.rows[fault.Internal]
	}
	if said.Reason == fault.Internal || !ok {
		return r.status, f.body(r, "internal error")
	}
	return r.status, f.body(r, said.Message)
}
