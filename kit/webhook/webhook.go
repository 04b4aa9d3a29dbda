// Package webhook posts callbacks to addresses that customers choose. It bounds
// time and size, refuses addresses of the inside network, follows no redirect,
// signs what it sends, stops asking hosts that do not answer, and says in its
// errors which of these it was.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"

	"github.com/callmesh/callmesh/kit/dialguard"
)

// Request is one callback.
type Request struct {
	// Name is what the callback is called, such as newCall; for log and metrics.
	// Only names of a fixed list may be used, as it becomes a metric's label.
	Name string
	// ID is the httpTransactionId. It goes out as Idempotency-Key too, by which the
	// transport may repeat a request on a fresh connection where the server has
	// closed an idle one in this very moment.
	ID   string
	URL  string
	Body []byte
	Auth Auth
	// SigningKey signs the request if it is not empty, see [Sign].
	SigningKey []byte
	// AllowPrivate admits loopback and private addresses.
	AllowPrivate bool
	// Timeout bounds the whole exchange; 0 takes the client's.
	Timeout time.Duration
}

// Auth is what the request shows of the caller: nothing, basic or bearer.
type Auth struct {
	User, Password string
	Bearer         string
}

// LogValue keeps credentials out of logs.
func (a Auth) LogValue() slog.Value {
	switch {
	case a.Bearer != "":
		return slog.StringValue("bearer")
	case a.User != "":
		return slog.StringValue("basic")
	}
	return slog.StringValue("none")
}

func (a Auth) apply(r *http.Request) {
	switch {
	case a.Bearer != "":
		r.Header.Set("Authorization", "Bearer "+a.Bearer)
	case a.User != "" || a.Password != "":
		r.SetBasicAuth(a.User, a.Password)
	}
}

// Response is a 2xx answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Took   time.Duration
}

// Options of a client. Zero fields take the defaults.
type Options struct {
	// Connect bounds name resolution, connection and TLS handshake, 2 s each;
	// Timeout the whole exchange, 5 s (contract §1.4).
	Connect, Timeout time.Duration
	// MaxBody bounds the answer, 1 MiB.
	MaxBody int64
	// Allow admits private networks for everybody: the operator's own services.
	Allow []netip.Prefix
	// Breaker says when a host is no longer asked.
	Breaker BreakerOptions
	// TLS is for private certificate authorities; nil is the system's.
	TLS *tls.Config
	// ConnsPerHost bounds connections to one host, 128.
	ConnsPerHost int
	UserAgent    string
}

func (o *Options) fill() {
	if o.Connect <= 0 {
		o.Connect = 2 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.ConnsPerHost <= 0 {
		o.ConnsPerHost = 128
	}
	if o.UserAgent == "" {
		o.UserAgent = "callmesh"
	}
	o.Breaker.fill()
}

// Client posts callbacks. It is safe for concurrent use.
type Client struct {
	o        Options
	guarded  *http.Client
	private  *http.Client
	breakers *breakers
	log      *slog.Logger
	took     *prometheus.HistogramVec
}

// New returns a client. Its metrics go to reg.
func New(log *slog.Logger, reg prometheus.Registerer, o Options) (*Client, error) {
	o.fill()
	c := &Client{
		o:        o,
		guarded:  newHTTPClient(o, dialguard.Control(false, o.Allow)),
		private:  newHTTPClient(o, dialguard.Control(true, o.Allow)),
		breakers: newBreakers(o.Breaker, log),
		log:      log,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "callmesh_callback_seconds",
			Help:    "Time that callbacks took, by name and result.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"name", "result"}),
	}
	if err := reg.Register(c.took); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.guarded.CloseIdleConnections()
	c.private.CloseIdleConnections()
}

func newHTTPClient(o Options, control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: o.Connect, KeepAlive: 30 * time.Second, Control: control}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // one from the environment would connect in our place, past the guard
			DialContext:            dialer.DialContext,
			TLSClientConfig:        o.TLS,
			TLSHandshakeTimeout:    o.Connect,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    32,
			MaxConnsPerHost:        o.ConnsPerHost,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // what is bounded on the wire is then bounded in memory
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Post sends r and returns the answer if it is a 2xx. Every error is an [*Error].
func (c *Client) Post(ctx context.Context, r Request) (*Response, error) {
	start := time.Now()
	u, err := parseURL(r.URL)
	if err != nil {
		return nil, c.done(ctx, r, nil, start, 0, &Error{Kind: InvalidURL, err: err})
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = c.o.Timeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	settle, err := c.breakers.allow(u)
	if err != nil {
		return nil, c.done(ctx, r, u, start, 0, &Error{Kind: BreakerOpen, Host: u.Host, err: err})
	}
	res, fail := c.exchange(bounded, u, r)
	if fail != nil && errors.Is(ctx.Err(), context.Canceled) {
		fail.Kind = Canceled
	}
	settle(fail)
	if fail != nil {
		return nil, c.done(ctx, r, u, start, fail.Status, fail)
	}
	res.Took = time.Since(start)
	_ = c.done(ctx, r, u, start, res.Status, nil)
	return res, nil
}

func (c *Client) exchange(ctx context.Context, u *url.URL, r Request) (*Response, *Error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, &Error{Kind: InvalidURL, Host: u.Host, err: errors.New("no valid request")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.o.UserAgent)
	if r.ID != "" {
		req.Header.Set("Idempotency-Key", r.ID)
	}
	r.Auth.apply(req)
	if len(r.SigningKey) > 0 {
		req.Header.Set(SignatureHeader, Sign(r.SigningKey, r.Body, time.Now()))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))

	client := c.guarded
	if r.AllowPrivate {
		client = c.private
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, failure(ctx, u, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, c.o.MaxBody+1))
	switch {
	case err != nil:
		fail := failure(ctx, u, err)
		fail.Status = res.StatusCode
		return nil, fail
	case int64(len(body)) > c.o.MaxBody:
		return nil, &Error{Kind: TooLarge, Host: u.Host, Status: res.StatusCode, err: fmt.Errorf("more than %d bytes", c.o.MaxBody)}
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return nil, &Error{Kind: Redirect, Host: u.Host, Status: res.StatusCode, err: errors.New("redirects are not followed")}
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nil, &Error{Kind: Status, Host: u.Host, Status: res.StatusCode, err: errors.New(http.StatusText(res.StatusCode))}
	}
	return &Response{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// done logs and counts one exchange, and returns its error.
func (c *Client) done(ctx context.Context, r Request, u *url.URL, start time.Time, status int, fail *Error) error {
	took := time.Since(start)
	attrs := []slog.Attr{
		slog.String("callback", r.Name), slog.String("http_transaction_id", r.ID), slog.Duration("took", took),
	}
	if u != nil {
		// Neither userinfo nor query: customers put keys there.
		attrs = append(attrs, slog.String("host", u.Host), slog.String("path", u.Path))
	}
	if status != 0 {
		attrs = append(attrs, slog.Int("status", status))
	}
	if fail == nil {
		c.took.WithLabelValues(r.Name, "ok").Observe(took.Seconds())
		c.log.LogAttrs(ctx, slog.LevelInfo, "callback answered", attrs...)
		return nil
	}
	c.took.WithLabelValues(r.Name, string(fail.Kind)).Observe(took.Seconds())
	c.log.LogAttrs(ctx, slog.LevelWarn, "callback failed", append(attrs, slog.String("kind", string(fail.Kind)), slog.String("err", fail.Error()))...)
	return fail
}

// parseURL admits absolute http and https URLs. Its errors do not show the URL.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("neither http nor https")
	}
	if u.Hostname() == "" {
		return nil, errors.New("no host")
	}
	u.Fragment = ""
	return u, nil
}

// CheckURL says what is wrong with a callback URL, for whoever stores one.
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}
