package edge

import (
	"io"
	"net/http"
	"strings"
)

// Handler is what the server serves, without its listener.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// BodyOf is a request's body.
func BodyOf(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }
