package edge

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/callmesh/callmesh/gateway/internal/dialect"
	"github.com/callmesh/callmesh/gateway/internal/openapi"
)

// dispatch finds the family by the first path segment (contract §0).
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	// The muxes unescape RawPath, and Path instead if that is empty, which it is
	// whenever Path escapes to what was sent: %2541 would be unescaped twice.
	r.URL.RawPath = path
	switch {
	case first == "mediaservice" && under(rest):
		s.media.ServeHTTP(w, r)
	case first == "calls":
		s.calls.ServeHTTP(w, r)
	case first == "healthz" && rest == "":
		s.healthz(w, r)
	case first == "docs":
		s.docs(w, r, rest)
	case path == "/":
		http.Redirect(w, r, "/docs/", http.StatusFound)
	case openapi.IsDomain(first):
		s.media.ServeHTTP(w, r)
	default:
		recordOf(r).family = "none"
		s.media.errors.Write(w, dialect.NotFound)
	}
}

// under tells whether a domain follows: /mediaservice/promptfile must not be
// read as the bare form of a domain called mediaservice.
func under(rest string) bool {
	domain, _, _ := strings.Cut(rest, "/")
	return openapi.IsDomain(domain)
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	recordOf(r).route = "/healthz"
	w.Header().Set("Content-Type", "application/json")
	if s.draining.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"draining"}`))
		return
	}
	_, _ = w.Write([]byte(`{"status":"ok"}`))
}

// publicURL is where the client reaches us: as configured, or else as it did.
func (s *Server) publicURL(r *http.Request) *url.URL {
	if s.opts.PublicURL != nil {
		return s.opts.PublicURL
	}
	u := &url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		u.Scheme = "https"
	}
	return u
}
