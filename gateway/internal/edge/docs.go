package edge

import (
	_ "embed"
	"net/http"

	"github.com/callmesh/callmesh/gateway/internal/dialect"
)

var (
	//go:embed docs.html
	docsPage []byte
	//go:embed docs.js
	docsScript []byte
	//go:embed docs.css
	docsStyle []byte
)

// docs serves the description of the API and a page to explore it. The page
// brings all it needs: it works where no other host can be reached.
func (s *Server) docs(w http.ResponseWriter, r *http.Request, rest string) {
	rec := recordOf(r)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.media.errors.Write(w, dialect.MethodNotAllowed)
		return
	}
	body, kind := docsPage, "text/html; charset=utf-8"
	switch rest {
	case "":
		if r.URL.Path == "/docs" {
			http.Redirect(w, r, "/docs/", http.StatusMovedPermanently)
			return
		}
	case "docs.js":
		body, kind = docsScript, "text/javascript; charset=utf-8"
	case "docs.css":
		body, kind = docsStyle, "text/css; charset=utf-8"
	case "openapi.json":
		text, err := s.doc.JSON(s.publicURL(r))
		if err != nil {
			rec.err = err
			s.media.errors.Write(w, err)
			return
		}
		body, kind = text, "application/json"
	default:
		s.media.errors.Write(w, dialect.NotFound)
		return
	}
	rec.route = "/docs/" + rest
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(body) // fails only when the client is gone
}
