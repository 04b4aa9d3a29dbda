package phrase_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/phrase"
	"github.com/callmesh/callmesh/kit/fault"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wav is silence of so many samples, at 8000 Hz.
func wav(samples int) []byte {
	var b bytes.Buffer
	le := binary.LittleEndian
	b.WriteString("RIFF\x00\x00\x00\x00WAVEfmt ")
	for _, v := range []any{uint32(16), uint16(1), uint16(1), uint32(8000), uint32(16000), uint16(2), uint16(16)} {
		_ = binary.Write(&b, le, v)
	}
	b.WriteString("data")
	_ = binary.Write(&b, le, uint32(2*samples))
	b.Write(make([]byte, 2*samples))
	return b.Bytes()
}

// store is recordingd as this package sees it.
type store struct {
	mu     sync.Mutex
	data   []byte
	etag   string
	err    error
	opened int
	sent   int
}

func (s *store) OpenPrompt(_ context.Context, req *recordingpb.OpenPromptRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[recordingpb.OpenPromptResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	if s.err != nil {
		return nil, s.err
	}
	head := &recordingpb.PromptHead{Name: req.GetName(), Size: int64(len(s.data)), Etag: s.etag}
	if req.GetIfNoneMatch() == s.etag {
		return &stream{messages: []*recordingpb.OpenPromptResponse{{Head: head, NotModified: true}}}, nil
	}
	s.sent++
	half := len(s.data) / 2
	return &stream{messages: []*recordingpb.OpenPromptResponse{{Head: head}, {Data: s.data[:half]}, {Data: s.data[half:]}}}, nil
}

type stream struct {
	grpc.ClientStream
	messages []*recordingpb.OpenPromptResponse
}

func (s *stream) Recv() (*recordingpb.OpenPromptResponse, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

// clock is moved by the test.
type clock struct{ nanoseconds atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.nanoseconds.Load()) }
func (c *clock) advance(d time.Duration) { c.nanoseconds.Add(int64(d)) }

func limits() phrase.Limits {
	return phrase.Limits{
		CacheBytes: 1 << 20, FileBytes: 1 << 20, Connect: time.Second, Fetch: 300 * time.Millisecond, Fresh: time.Second,
	}
}

func newResolver(t *testing.T, s *store, c *clock, l phrase.Limits) *phrase.Resolver {
	t.Helper()
	r := phrase.New(phrase.Options{
		Prompts: s, Limits: l, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: c.now,
	})
	t.Cleanup(r.Close)
	return r
}

// resolve returns the clip's length in samples, or the problem.
func resolve(t *testing.T, r *phrase.Resolver, p command.Phrase, allowPrivate bool) (int, *cycle.Problem) {
	t.Helper()
	res, err := r.Resolve(t.Context(), "d.test", allowPrivate, command.Command{Phrases: []command.Phrase{p}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Problems) == 1 {
		return 0, &res.Problems[0]
	}
	return len(res.Clips[0].Samples) / 2, nil
}

func file(name string) command.Phrase {
	return command.Phrase{Format: command.FormatFile, FileName: name}
}

func TestPromptFilesAreDecodedOnce(t *testing.T) {
	s, c := &store{data: wav(100), etag: "1"}, &clock{}
	r := newResolver(t, s, c, limits())
	expect := func(samples, opened, sent int) {
		t.Helper()
		if n, problem := resolve(t, r, file("a.wav"), false); n != samples {
			t.Errorf("%d samples, want %d; %v", n, samples, problem)
		}
		if s.opened != opened || s.sent != sent {
			t.Errorf("opened %d times and sent %d times, want %d and %d", s.opened, s.sent, opened, sent)
		}
	}
	expect(100, 1, 1)
	expect(100, 1, 1) // fresh
	c.advance(2 * time.Second)
	expect(100, 2, 1) // asked, not modified
	s.data, s.etag = wav(200), "2"
	expect(100, 2, 1) // fresh again
	c.advance(2 * time.Second)
	expect(200, 3, 2)
	s.err = fault.New(fault.Unavailable, "away")
	c.advance(2 * time.Second)
	expect(200, 4, 2) // what was played a while ago is better than silence
	s.err = fault.New(fault.PromptNotFound, "gone")
	if _, problem := resolve(t, r, file("a.wav"), false); problem == nil || problem.Reason != "the prompt file does not exist" {
		t.Errorf("a deleted file: %+v", problem)
	}
}

func TestRefreshCacheAsksAgain(t *testing.T) {
	s, c := &store{data: wav(100), etag: "1"}, &clock{}
	r := newResolver(t, s, c, limits())
	p := file("a.wav")
	resolve(t, r, p, false)
	p.Refresh = true
	resolve(t, r, p, false)
	if s.opened != 2 {
		t.Errorf("asked %d times, want 2", s.opened)
	}
}

func TestDomainsDoNotShare(t *testing.T) {
	s := &store{data: wav(100), etag: "1"}
	r := newResolver(t, s, &clock{}, limits())
	for _, domain := range []string{"a.test", "b.test"} {
		if _, err := r.Resolve(t.Context(), domain, false, command.Command{Phrases: []command.Phrase{file("a.wav")}}); err != nil {
			t.Fatal(err)
		}
	}
	if s.sent != 2 {
		t.Errorf("sent %d times, want 2", s.sent)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	s, c := &store{data: wav(1000), etag: "1"}, &clock{}
	l := limits()
	l.CacheBytes = 10 << 10 // four clips of 2000 bytes and what they cost besides
	r := newResolver(t, s, c, l)
	for i := range 10 {
		resolve(t, r, file(fmt.Sprintf("%d.wav", i)), false)
	}
	sent := s.sent
	resolve(t, r, file("9.wav"), false)
	if s.sent != sent {
		t.Error("the latest clip was not kept")
	}
	resolve(t, r, file("0.wav"), false)
	if s.sent != sent+1 {
		t.Error("the oldest clip was kept beyond the bound")
	}
}

func TestOneFetchForAll(t *testing.T) {
	release, asked := make(chan struct{}), atomic.Int32{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-release
		_, _ = w.Write(wav(50))
	}))
	defer web.Close()
	l := limits()
	l.Fetch = 5 * time.Second
	r := newResolver(t, &store{}, &clock{}, l)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if n, problem := resolve(t, r, at(web.URL), true); n != 50 {
				t.Errorf("%d samples, %v", n, problem)
			}
		})
	}
	for deadline := time.Now().Add(5 * time.Second); asked.Load() == 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked")
		}
	}
	// One that gives up takes nothing from the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, "d.test", true, command.Command{Phrases: []command.Phrase{at(web.URL)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	close(release)
	wg.Wait()
	if n := asked.Load(); n > 2 { // a caller that came after the first fetch asks once more
		t.Errorf("asked %d times", n)
	}
}

func at(u string) command.Phrase { return command.Phrase{Format: command.FormatURL, URL: u} }

func TestURLRevalidation(t *testing.T) {
	var bodies, asked int
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") == "Thu, 01 Jan 2026 00:00:00 GMT" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		bodies++
		_, _ = w.Write(wav(50))
	}))
	defer web.Close()
	c := &clock{}
	r := newResolver(t, &store{}, c, limits())
	p := at(web.URL + "/a.wav")
	expect := func(wantAsked int) {
		t.Helper()
		if n, problem := resolve(t, r, p, true); n != 50 {
			t.Errorf("%d samples, %+v", n, problem)
		}
		if asked != wantAsked || bodies != 1 {
			t.Errorf("asked %d times for %d bodies, want %d and 1", asked, bodies, wantAsked)
		}
	}
	expect(1)
	c.advance(time.Minute)
	expect(2) // no cacheTimeToLive: asked for each play
	hour := time.Hour
	p.Keep = &hour
	c.advance(59 * time.Minute)
	expect(2)
	c.advance(2 * time.Minute)
	expect(3)
	p.Refresh = true
	expect(4)
}

func TestURLProblems(t *testing.T) {
	slow := make(chan struct{})
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/404", http.NotFound)
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-slow })
	mux.HandleFunc("/slowbody", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-slow
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) })
	mux.HandleFunc("/said-huge", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999") })
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(wav(50)) })
	web := httptest.NewServer(mux)
	defer web.Close()
	defer close(slow)

	r := newResolver(t, &store{}, &clock{}, limits())
	tests := []struct {
		path, error, reason string
		public              bool
	}{
		{path: "/404", error: "phraseError", reason: "the URL answered with status 404"},
		{path: "/500", error: "phraseError", reason: "the URL answered with status 500"},
		{path: "/slow", error: "phraseRemoteCacheTimeout", reason: "the URL did not answer in time"},
		{path: "/slowbody", error: "phraseRemoteCacheTimeout", reason: "the URL did not answer in time"},
		{path: "/huge", error: "phraseError", reason: "the file is larger than 1 MiB"},
		{path: "/said-huge", error: "phraseError", reason: "the file is larger than 1 MiB"},
		{path: "/text", error: "phraseError", reason: "the file is not WAV, .au, .ulaw or .alaw audio"},
		{path: "/away", error: "phraseError", reason: "the URL redirects to another host"},
		{path: "/loop", error: "phraseError", reason: "the URL could not be fetched"},
		{path: "/good", error: "phraseError", reason: "the URL leads to a private address, which the domain does not allow", public: true},
	}
	for _, tc := range tests {
		secret := tc.path + "?signature=hush"
		_, problem := resolve(t, r, at(web.URL+secret), !tc.public)
		if problem == nil || problem.Error != tc.error || problem.Reason != tc.reason {
			t.Errorf("%s: %+v, want %s: %s", tc.path, problem, tc.error, tc.reason)
		} else if strings.Contains(problem.URL, "hush") || !strings.HasSuffix(problem.URL, tc.path) {
			t.Errorf("%s: the alarm shows %s", tc.path, problem.URL)
		}
	}
	if n, problem := resolve(t, r, at(web.URL+"/here"), true); n != 50 {
		t.Errorf("redirect within the host: %+v", problem)
	}
}

// TestPrivateAddresses: names and notations that lead inside are refused before
// anything is connected to.
func TestPrivateAddresses(t *testing.T) {
	r := newResolver(t, &store{}, &clock{}, limits())
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0",
		"100.64.0.1", "[fd00::1]", "[fe80::1]",
	} {
		u := url.URL{Scheme: "http", Host: host + ":1", Path: "/a.wav"}
		_, problem := resolve(t, r, at(u.String()), false)
		if problem == nil || !strings.Contains(problem.Reason, "private address") {
			t.Errorf("%s: %+v", host, problem)
		}
	}
}

// TestLinkLocalAddresses: clouds keep their credentials there, and no domain's
// leave reaches them.
func TestLinkLocalAddresses(t *testing.T) {
	r := newResolver(t, &store{}, &clock{}, limits())
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "224.0.0.1"} {
		u := url.URL{Scheme: "http", Host: host + ":1", Path: "/a.wav"}
		_, problem := resolve(t, r, at(u.String()), true)
		if problem == nil || !strings.Contains(problem.Reason, "private address") {
			t.Errorf("%s: %+v", host, problem)
		}
	}
}

func TestStaleBetterThanSilence(t *testing.T) {
	status := atomic.Int32{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s := status.Load(); s != 0 {
			w.WriteHeader(int(s))
			return
		}
		_, _ = w.Write(wav(50))
	}))
	defer web.Close()
	c := &clock{}
	r := newResolver(t, &store{}, c, limits())
	resolve(t, r, at(web.URL), true)
	c.advance(time.Minute)
	status.Store(http.StatusBadGateway)
	if n, problem := resolve(t, r, at(web.URL), true); n != 50 {
		t.Errorf("while the host is in trouble: %+v", problem)
	}
	status.Store(http.StatusGone)
	if _, problem := resolve(t, r, at(web.URL), true); problem == nil {
		t.Error("what is gone was played")
	}
}

func TestOrderAndBackground(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(wav(len(r.URL.Path)))
	}))
	defer web.Close()
	r := newResolver(t, &store{data: wav(99), etag: "1"}, &clock{}, limits())
	cmd := command.Command{Background: &command.Background{FileName: "music.wav"}}
	for i := range 10 {
		cmd.Phrases = append(cmd.Phrases, at(web.URL+"/"+strings.Repeat("x", i)))
	}
	cmd.Phrases[4].Problem = "broken"
	res, err := r.Resolve(t.Context(), "d.test", true, cmd)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, clip := range res.Clips {
		got = append(got, len(clip.Samples)/2)
	}
	if want := fmt.Sprint([]int{1, 2, 3, 4, 6, 7, 8, 9, 10}); fmt.Sprint(got) != want {
		t.Errorf("lengths %v, want %v", got, want)
	}
	if len(res.Background.Samples) != 198 || len(res.Problems) != 1 || res.Problems[0].Index != 4 {
		t.Errorf("background of %d bytes, problems %+v", len(res.Background.Samples), res.Problems)
	}
}
