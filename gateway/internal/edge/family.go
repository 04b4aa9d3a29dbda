package edge

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/callmesh/callmesh/gateway/internal/auth"
	"github.com/callmesh/callmesh/gateway/internal/dialect"
	"github.com/callmesh/callmesh/gateway/internal/format"
	"github.com/callmesh/callmesh/gateway/internal/openapi"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
)

// family is one REST family: a mux with its own JSON and its own errors.
type family struct {
	name   string
	mux    *runtime.ServeMux
	errors *dialect.Family
	keys   *auth.Keys
	doc    *openapi.Document
	// cors lets pages of any origin call: only where no cookie is a credential.
	cors      bool
	bodyBytes int64
}

// finish builds the mux once the other fields are set.
func (f *family) finish(codec *format.Codec) *family {
	f.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonBodies{codec}),
		// Each segment is unescaped once, after the path was split.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		// No header of a client becomes metadata of the mesh, nor the other way.
		runtime.WithIncomingHeaderMatcher(noHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithWriteContentLength(),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			f.fail(w, r, err)
		}),
		runtime.WithRoutingErrorHandler(f.unrouted),
		runtime.WithMiddlewares(f.guard),
	)
	return f
}

func noHeader(string) (string, bool) { return "", false }

func (f *family) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	recordOf(r).family = f.name
	if f.cors {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			f.preflight(w, r)
			return
		}
	}
	if !isText(r.URL) {
		f.fail(w, r, fault.New(fault.BadRequest, "path or query is not UTF-8"))
		return
	}
	f.mux.ServeHTTP(w, r)
}

// isText tells whether path and query can become strings of a message.
func isText(u *url.URL) bool {
	if !utf8.ValidString(u.Path) {
		return false
	}
	// A query that cannot be unescaped is refused where it is parsed.
	query, err := url.QueryUnescape(u.RawQuery)
	return err != nil || utf8.ValidString(query)
}

// preflight answers OPTIONS by contract §1.2, to anybody.
func (f *family) preflight(w http.ResponseWriter, r *http.Request) {
	methods := f.doc.Methods(r.URL.EscapedPath())
	if len(methods) == 0 {
		f.fail(w, r, dialect.NotFound)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", strings.Join(append(methods, http.MethodOptions), ","))
	h.Set("Access-Control-Allow-Headers", "Content-Type,Authorization,X-Amz-Date,X-Amz-Security-Token,X-Api-Key")
	h.Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // fails only when the client is gone
}

// guard asks for the credential. It runs after routing: that a path does not
// exist is no secret.
func (f *family) guard(next runtime.HandlerFunc) runtime.HandlerFunc {
	// Every route has a guard of its own, which learns its name once.
	var naming sync.Once
	var route string
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		naming.Do(func() { route = routeOf(r) })
		rec := recordOf(r)
		rec.route = route
		if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
			span.SetName(r.Method + " " + route)
			span.SetAttributes(attribute.String("http.route", route))
		}
		p, err := f.keys.Principal(r.Context(), r.Header)
		if err != nil {
			f.fail(w, r, err)
			return
		}
		rec.subject = p.Subject
		// Domain names are written in any case (RFC 4343), and kept in lower case.
		if domain, ok := params["domain"]; ok {
			params["domain"] = strings.ToLower(domain)
		}
		// What is no domain's name ("self", a number) is for the daemon to read.
		if domain := params["domain"]; strings.Contains(domain, ".") && !p.Covers(domain) {
			f.fail(w, r, fault.New(fault.DomainForbidden, "credential is not valid for this domain").On("domain"))
			return
		}
		if !readable(r) {
			f.fail(w, r, dialect.UnsupportedMediaType)
			return
		}
		// The credential ends here, and a client sets no deadlines of the mesh.
		r.Header.Del("Authorization")
		r.Header.Del("Grpc-Timeout")
		r.Body = &body{Reader: http.MaxBytesReader(w, r.Body, f.bodyBytes), raw: r.Body}
		next(w, r.WithContext(principal.As(r.Context(), p)), params)
	}
}

// routeOf returns the route's template as rest.yaml has it.
func routeOf(r *http.Request) string {
	pattern, _ := runtime.HTTPPattern(r.Context())
	return strings.ReplaceAll(pattern.String(), "=*}", "}")
}

// readable tells whether a body that shall be JSON says so, or says nothing.
func readable(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	if kind == "" || (r.Method != http.MethodPost && r.Method != http.MethodPatch) {
		return true
	}
	kind, _, err := mime.ParseMediaType(kind)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// stream adapts a handler of byte streams, whose body has its own limit.
func (f *family) stream(errs *dialect.Family, h func(http.ResponseWriter, *http.Request, map[string]string) error) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if b, ok := r.Body.(*body); ok {
			r.Body = b.raw
		}
		if err := h(w, r, params); err != nil {
			recordOf(r).err = err
			errs.Write(w, err)
		}
	}
}

func (f *family) fail(w http.ResponseWriter, r *http.Request, err error) {
	// The generated code turns decoding errors into text; the body kept them.
	if b, ok := r.Body.(*body); ok && b.fault != nil {
		err = b.fault
	}
	if _, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		err = fault.New(fault.BadRequest, "path is malformed")
	}
	recordOf(r).err = err
	f.errors.Write(w, err)
}

// unrouted answers for the mux: 404, 405, 400.
func (f *family) unrouted(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusMethodNotAllowed:
		methods := f.doc.Methods(r.URL.EscapedPath())
		if f.cors {
			methods = append(methods, http.MethodOptions)
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		f.fail(w, r, dialect.MethodNotAllowed)
	case http.StatusBadRequest:
		f.fail(w, r, fault.New(fault.BadRequest, "path is malformed"))
	default:
		f.fail(w, r, dialect.NotFound)
	}
}

// body is a request's body, bounded, with what was wrong about it.
type body struct {
	io.Reader
	raw   io.ReadCloser
	fault *fault.Fault
}

func (b *body) Close() error { return b.raw.Close() }
