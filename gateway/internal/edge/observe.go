package edge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/gateway/internal/dialect"
	"github.com/callmesh/callmesh/kit/fault"
)

// record is what becomes known of a request on its way, for the log.
type record struct {
	family  string
	route   string
	subject string
	err     error
}

type recordKey struct{}

func recordOf(r *http.Request) *record {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		return rec
	}
	return &record{}
}

// observer writes the access log and the metrics, and answers for handlers
// that panic.
type observer struct {
	log      *slog.Logger
	duration *prometheus.HistogramVec
}

func newObserver(opts Options) (*observer, error) {
	o := &observer{log: opts.Log, duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "callmesh_gateway_request_seconds",
		Help:    "Time to answer a REST request, by route and status.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"family", "route", "method", "status"})}
	if err := opts.Metrics.Register(o.duration); err != nil {
		return nil, fmt.Errorf("gateway metrics: %w", err)
	}
	return o, nil
}

const requestID = "X-Request-Id"

func (o *observer) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &record{}
		id := identify(r.Header.Get(requestID))
		w.Header().Set(requestID, id)
		out := &answer{ResponseWriter: w}
		defer func() {
			aborted := o.recovered(out, r, recover())
			o.note(r, out, rec, id, time.Since(began))
			if aborted {
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	})
}

// recovered answers for a handler that panicked, and tells whether the
// connection has to be broken because an answer had begun.
func (o *observer) recovered(out *answer, r *http.Request, cause any) (abort bool) {
	if cause == nil {
		return false
	}
	if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		o.log.ErrorContext(r.Context(), "request panicked", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	}
	if out.status != 0 {
		return true
	}
	dialect.Mediaservice().Write(out, fault.New(fault.Internal, "internal error"))
	return false
}

// note writes the request down, never its query or its headers: they may hold
// credentials.
func (o *observer) note(r *http.Request, out *answer, rec *record, id string, took time.Duration) {
	if out.status == 0 {
		out.status = http.StatusOK
	}
	method := known(r.Method)
	o.duration.WithLabelValues(rec.family, rec.route, method, strconv.Itoa(out.status)).Observe(took.Seconds())
	level := slog.LevelInfo
	switch {
	case out.status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case rec.family == "":
		level = slog.LevelDebug // probes and the docs
	}
	if !o.log.Enabled(r.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("method", method), slog.String("path", r.URL.EscapedPath()), slog.String("route", rec.route),
		slog.Int("status", out.status), slog.Int64("bytes", out.bytes), slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("request", id), slog.String("key", rec.subject), slog.String("remote", r.RemoteAddr))
	if rec.err != nil {
		f := fault.From(rec.err)
		attrs = append(attrs, slog.String("reason", string(f.Reason)))
		if cause := f.Unwrap(); cause != nil && level == slog.LevelWarn {
			attrs = append(attrs, slog.String("err", cause.Error()))
		}
	}
	o.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// known keeps a client's inventions out of labels.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
		return method
	}
	return "other"
}

// identify keeps a client's request id if it is fit for a log.
func identify(given string) string {
	if n := len(given); n > 0 && n <= 64 && fit(given) {
		return given
	}
	var raw [12]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

func fit(s string) bool {
	for _, ch := range []byte(s) {
		switch {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9', ch == '-', ch == '_', ch == '.':
		default:
			return false
		}
	}
	return true
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
