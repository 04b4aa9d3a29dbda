package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t testing.TB, log *slog.Logger, o webhook.Options) *webhook.Client {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := webhook.New(log, prometheus.NewRegistry(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestPost(t *testing.T) {
	var got *http.Request
	var body []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"action":"ivr"}`))
	})
	c := client(t, nil, webhook.Options{UserAgent: "callmesh/1"})
	key := []byte("signing key")
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
	}))
	res, err := c.Post(ctx, webhook.Request{
		Name: "newCall", ID: "tx-1", URL: s.URL + "/hooks/newCall?key=1", Body: []byte(`{"a":1}`),
		Auth: webhook.Auth{User: "me", Password: "secret"}, SigningKey: key, AllowPrivate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != 201 || string(res.Body) != `{"action":"ivr"}` || res.Took <= 0 {
		t.Errorf("response %+v", res)
	}
	if user, pw, ok := got.BasicAuth(); !ok || user != "me" || pw != "secret" {
		t.Error("no basic auth")
	}
	if got.Method != "POST" || got.URL.Path != "/hooks/newCall" || got.URL.RawQuery != "key=1" || string(body) != `{"a":1}` {
		t.Errorf("got %s %s %q", got.Method, got.URL, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": "tx-1", "User-Agent": "callmesh/1",
		"Traceparent": "00-01000000000000000000000000000000-0200000000000000-01",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if err := webhook.Verify(key, got.Header.Get(webhook.SignatureHeader), body, time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := c.Post(t.Context(), webhook.Request{Name: "x", URL: s.URL, Auth: webhook.Auth{Bearer: "tok"}, AllowPrivate: true}); err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Authorization") != "Bearer tok" || got.Header.Get(webhook.SignatureHeader) != "" {
		t.Errorf("headers %v", got.Header)
	}
}

func TestEachWayToFailIsTold(t *testing.T) {
	release := make(chan struct{})
	var followed atomic.Bool
	other := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/slow":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/drip":
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/500":
			http.Error(w, "broken", 500)
		case "/404":
			http.NotFound(w, r)
		case "/429":
			w.WriteHeader(429)
		case "/redirect":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/huge":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 10<<20))
		case "/full":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 1<<20))
		case "/hangup":
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		}
	})
	defer close(release)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := dead.Addr().String() // nobody listens there in a moment
	_ = dead.Close()

	tests := []struct {
		name, url string
		deny      bool // no private addresses
		kind      webhook.Kind
		status    int
		temporary bool
	}{
		{name: "slow", url: s.URL + "/slow", kind: webhook.Timeout, temporary: true},
		{name: "slow body", url: s.URL + "/drip", kind: webhook.Timeout, status: 200, temporary: true},
		{name: "500", url: s.URL + "/500", kind: webhook.Status, status: 500, temporary: true},
		{name: "404", url: s.URL + "/404", kind: webhook.Status, status: 404},
		{name: "429", url: s.URL + "/429", kind: webhook.Status, status: 429, temporary: true},
		{name: "redirect", url: s.URL + "/redirect", kind: webhook.Redirect, status: 302},
		{name: "huge", url: s.URL + "/huge", kind: webhook.TooLarge, status: 200},
		{name: "just not too large", url: s.URL + "/full"},
		{name: "cut off", url: s.URL + "/hangup", kind: webhook.Connect, temporary: true},
		{name: "nobody there", url: "http://" + nobody, kind: webhook.Connect, temporary: true},
		{name: "private", url: s.URL, deny: true, kind: webhook.RefusedAddress},
		{name: "localhost", url: strings.Replace(s.URL, "127.0.0.1", "localhost", 1), deny: true, kind: webhook.RefusedAddress},
		{name: "mapped", url: strings.Replace(s.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), deny: true, kind: webhook.RefusedAddress},
		{name: "private network", url: "http://10.0.0.1/", deny: true, kind: webhook.RefusedAddress},
		{name: "metadata", url: "http://169.254.169.254/", deny: true, kind: webhook.RefusedAddress},
		{name: "metadata is never private", url: "http://169.254.169.254/", kind: webhook.RefusedAddress},
		{name: "unspecified is never private", url: "http://0.0.0.0:1/", kind: webhook.RefusedAddress},
		{name: "another scheme", url: "ftp://h/", kind: webhook.InvalidURL},
		{name: "file", url: "file:///etc/passwd", kind: webhook.InvalidURL},
		{name: "no host", url: "http:///x", kind: webhook.InvalidURL},
		{name: "no URL", url: "http://h\x7f/?secret", kind: webhook.InvalidURL},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := client(t, nil, webhook.Options{Timeout: 200 * time.Millisecond})
			timeout := time.Duration(0)
			if tc.kind != webhook.Timeout {
				timeout = 10 * time.Second
			}
			_, err := c.Post(t.Context(), webhook.Request{
				Name: "newCall", URL: tc.url, Body: []byte("{}"), AllowPrivate: !tc.deny, Timeout: timeout,
			})
			if tc.kind == "" {
				if err != nil {
					t.Errorf("err = %v", err)
				}
				return
			}
			var e *webhook.Error
			if !errors.As(err, &e) {
				t.Fatalf("err = %v", err)
			}
			if e.Kind != tc.kind || e.Status != tc.status || e.Temporary() != tc.temporary {
				t.Errorf("kind %s, status %d, temporary %t (%v)", e.Kind, e.Status, e.Temporary(), e)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the query: %v", err)
			}
		})
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTheOperatorsNetworksAreAllowed(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	c := client(t, nil, webhook.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if _, err := c.Post(t.Context(), webhook.Request{Name: "x", URL: s.URL}); err != nil {
		t.Error(err)
	}
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	var used atomic.Bool
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { used.Store(true) })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c := client(t, nil, webhook.Options{Timeout: 300 * time.Millisecond})
	// A documentation address (RFC 5737): no proxy is bypassed for it.
	_, err := c.Post(t.Context(), webhook.Request{Name: "x", URL: "http://192.0.2.1/"})
	if err == nil || used.Load() {
		t.Errorf("err = %v, proxy used: %t", err, used.Load())
	}
}

func TestCanceled(t *testing.T) {
	entered := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	c := client(t, nil, webhook.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := c.Post(ctx, webhook.Request{Name: "x", URL: s.URL, AllowPrivate: true})
	var e *webhook.Error
	if !errors.As(err, &e) || e.Kind != webhook.Canceled {
		t.Errorf("err = %v", err)
	}
}

func TestTheBreakerOpensPerHostAndCloses(t *testing.T) {
	var asked atomic.Int32
	var silent atomic.Bool
	silent.Store(true)
	bad := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if silent.Load() {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		}
	})
	angry := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	c := client(t, nil, webhook.Options{Breaker: webhook.BreakerOptions{Failures: 3, Open: 100 * time.Millisecond}})
	post := func(url string) webhook.Kind {
		_, err := c.Post(t.Context(), webhook.Request{Name: "x", URL: url, AllowPrivate: true})
		var e *webhook.Error
		if errors.As(err, &e) {
			return e.Kind
		}
		return ""
	}
	for range 3 {
		if k := post(bad.URL); k != webhook.Connect {
			t.Fatalf("kind %q", k)
		}
	}
	n := asked.Load()
	if k := post(bad.URL + "/another/path"); k != webhook.BreakerOpen || asked.Load() != n {
		t.Errorf("after three failures: %q, asked %d more times", k, asked.Load()-n)
	}
	// Answers of any status show that a host is there.
	for range 6 {
		if k := post(angry.URL); k != webhook.Status {
			t.Errorf("a host that answers 500: %q", k)
		}
	}
	silent.Store(false)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for post(bad.URL) != "" {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the breaker did not close within 10 s")
		}
	}
}

func TestTheLogShowsNoSecrets(t *testing.T) {
	var mu sync.Mutex
	var buf bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&locked{mu: &mu, w: &buf}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	})
	c := client(t, log, webhook.Options{})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "sesame1")
	for _, path := range []string{"/good", "/bad"} {
		u.Path, u.RawQuery = path, "key=sesame2"
		_, _ = c.Post(t.Context(), webhook.Request{
			Name: "newCall", ID: "tx-9", URL: u.String(), Body: []byte(`{"dtmf":"sesame3"}`), AllowPrivate: true,
			Auth: webhook.Auth{Bearer: "sesame4"}, SigningKey: []byte("sesame5"),
		})
	}
	log.Info("auth", "auth", webhook.Auth{User: "u", Password: "sesame6"})
	mu.Lock()
	defer mu.Unlock()
	text := buf.String()
	if strings.Contains(text, "sesame") {
		t.Errorf("the log shows a secret:\n%s", text)
	}
	for _, want := range []string{"tx-9", "newCall", "/good", "/bad", `"status":500`, u.Host} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s:\n%s", want, text)
		}
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A server may close an idle connection just as a request goes out on it.
func TestAConnectionClosedWhileIdleIsReplaced(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1)%2 == 1 {
			return // this connection is kept by the client ...
		}
		conn, _, _ := w.(http.Hijacker).Hijack() // ... and dies at its next use
		_ = conn.Close()
	})
	c := client(t, nil, webhook.Options{})
	for range 5 {
		if _, err := c.Post(t.Context(), webhook.Request{Name: "x", ID: "tx", URL: s.URL, Body: []byte("{}"), AllowPrivate: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := client(t, nil, webhook.Options{})
	for range 20 {
		if _, err := c.Post(t.Context(), webhook.Request{Name: "x", URL: s.URL, AllowPrivate: true}); err != nil {
			t.Fatal(err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for 20 requests in a row", conns.Load())
	}
}

func TestVerify(t *testing.T) {
	key, body, at := []byte("k"), []byte(`{"a":1}`), time.Unix(1_800_000_000, 0)
	good := webhook.Sign(key, body, at)
	if good != "t=1800000000,v1="+strings.TrimPrefix(good, "t=1800000000,v1=") || len(good) != len("t=1800000000,v1=")+64 {
		t.Errorf("header %q", good)
	}
	tests := []struct {
		name, header string
		key, body    []byte
		now          time.Time
		ok           bool
	}{
		{"good", good, key, body, at.Add(time.Minute), true},
		{"of a clock that is ahead", good, key, body, at.Add(-time.Minute), true},
		{"among several, of which one is ours", "t=1800000000,v1=00ff," + good[len("t=1800000000,"):], key, body, at, true},
		{"too old", good, key, body, at.Add(time.Hour), false},
		{"another key", good, []byte("x"), body, at, false},
		{"another body", good, key, []byte(`{"a":2}`), at, false},
		{"another time", strings.Replace(good, "1800000000", "1800000001", 1), key, body, at, false},
		{"empty", "", key, body, at, false},
		{"no sum", "t=1800000000", key, body, at, false},
		{"no hex", "t=1800000000,v1=zz", key, body, at, false},
	}
	for _, tc := range tests {
		if err := webhook.Verify(tc.key, tc.header, tc.body, tc.now, 5*time.Minute); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1800000000,v1=00")
	f.Add("v1=,t=,,=")
	f.Fuzz(func(t *testing.T, header string) {
		if webhook.Verify([]byte("k"), header, []byte("b"), time.Unix(1_800_000_000, 0), time.Hour) == nil {
			t.Errorf("%q passed", header)
		}
	})
}

func BenchmarkPost(b *testing.B) {
	s := serve(b, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	c := client(b, nil, webhook.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Post(b.Context(), webhook.Request{Name: "x", ID: "1", URL: s.URL, Body: []byte("{}"), AllowPrivate: true, SigningKey: []byte("k")}); err != nil {
			b.Fatal(err)
		}
	}
}
