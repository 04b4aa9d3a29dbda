package edge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/gateway/internal/edge"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
)

// bareHandler is the edge without a listener, over peers in memory.
func bareHandler(b testing.TB) (http.Handler, *grpckit.Dialer) {
	b.Helper()
	signer, err := principal.NewSigner(bytes.Repeat([]byte{7}, 32), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	m := &mesh.Memory{}
	h := &house{sessiond: &sessiond{session: sample()}, recordingd: &recordingd{files: map[string][]byte{}, aborted: make(chan error, 1)}}
	serving := context.WithoutCancel(b.Context())
	for _, p := range peers(m, signer, h) {
		if err := p.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- p.Serve(serving) }()
		b.Cleanup(func() {
			if err := errors.Join(p.Stop(context.Background()), <-done); err != nil {
				b.Error(err)
			}
		})
	}
	d := grpckit.NewDialer(m, signer, "gateway")
	b.Cleanup(func() { _ = d.Close(context.Background()) })
	sessiond, err := d.Service("sessiond")
	if err != nil {
		b.Fatal(err)
	}
	recordingd, err := d.Service("recordingd")
	if err != nil {
		b.Fatal(err)
	}
	s, err := edge.New(edge.Options{
		Limits: edge.Limits(gateway.Defaults().Limits), Sessiond: sessiond, Recordingd: recordingd,
		Log: slog.New(slog.NewJSONHandler(&forgetful{}, nil)), Metrics: prometheus.NewRegistry(), Now: time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	return s.Handler(), d
}

// forgetful takes the log lines, which cost what they cost in production.
type forgetful struct{}

func (*forgetful) Write(b []byte) (int, error) { return len(b), nil }

const sessionPath = "/calls/" + domain + "/sessions/" + token

// The whole way of a session GET but for the HTTP connection.
func BenchmarkGetSessionHandler(b *testing.B) {
	handler, _ := bareHandler(b)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("GET", sessionPath, nil)
		r.Header.Set("Authorization", "Bearer demo-secret")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// What of that is the gRPC call to sessiond.
func BenchmarkGetSessionRPC(b *testing.B) {
	_, dialer := bareHandler(b)
	conn, err := dialer.Service("sessiond")
	if err != nil {
		b.Fatal(err)
	}
	client := callspb.NewSessionsClient(conn)
	ctx := principal.As(b.Context(), principal.Principal{Subject: "demo", Domains: []string{domain}, Roles: []string{"domain"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.GetSession(ctx, &callspb.GetSessionRequest{Domain: domain, Token: token}); err != nil {
			b.Fatal(err)
		}
	}
}

// A client on a kept connection, one request after the other.
func BenchmarkGetSessionHTTP(b *testing.B) {
	h := open(b)
	b.ReportAllocs()
	for b.Loop() {
		get(b, h.url+sessionPath)
	}
}

// Many clients at once.
func BenchmarkGetSessionHTTPParallel(b *testing.B) {
	h := open(b)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			get(b, h.url+sessionPath)
		}
	})
}

// What HTTP itself costs here: a server that answers the same bytes.
func BenchmarkBareHTTP(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 700)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		get(b, s.URL)
	}
}

func get(b *testing.B, url string) {
	req, err := http.NewRequestWithContext(b.Context(), "GET", url, nil)
	if err != nil {
		b.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer demo-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err := resp.Body.Close(); err != nil {
		b.Error(err)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Error(resp.StatusCode, err)
	}
}
