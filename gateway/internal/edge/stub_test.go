package edge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/run"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

const domain = "demo.callmesh.test"

// sessiond stands in for the daemon of that name: the real server with its
// real access checks, and answers that a test sets.
type sessiond struct {
	directorypb.UnimplementedCredentialsServer
	mediaservicepb.UnimplementedCallsServer
	callspb.UnimplementedSessionsServer

	mu       sync.Mutex
	verified int
	asked    []any
	session  *callspb.Session
	fail     error
}

func (s *sessiond) VerifyKey(_ context.Context, req *directorypb.VerifyKeyRequest) (*directorypb.VerifyKeyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified++
	for key, answer := range map[string]*directorypb.VerifyKeyResponse{
		"demo-secret":  {Subject: "demo", Domains: []string{domain}, Roles: []string{"domain"}},
		"admin-secret": {Subject: "root", Domains: []string{"*"}, Roles: []string{"admin"}},
		"weak-secret":  {Subject: "weak", Domains: []string{domain}, Roles: []string{"nobody"}},
	} {
		if sum := sha256.Sum256([]byte(key)); bytes.Equal(sum[:], req.GetKeySha256()) {
			return answer, nil
		}
	}
	return nil, fault.New(fault.Unauthenticated, "no such key")
}

func (s *sessiond) saw(req any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req)
	return s.fail
}

func (s *sessiond) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sessiond) last(t *testing.T) any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		t.Fatal("no request arrived")
	}
	return s.asked[len(s.asked)-1]
}

func (s *sessiond) HangUpCall(_ context.Context, req *mediaservicepb.HangUpCallRequest) (*mediaservicepb.HangUpCallResponse, error) {
	if err := s.saw(req); err != nil {
		return nil, err
	}
	if req.GetReplyId() == "" {
		return nil, fault.New(fault.BadRequest, "replyId is required").On("replyId")
	}
	return &mediaservicepb.HangUpCallResponse{Success: true}, nil
}

func (s *sessiond) InterruptIvrCommand(_ context.Context, req *mediaservicepb.InterruptIvrCommandRequest) (*mediaservicepb.InterruptIvrCommandResponse, error) {
	if err := s.saw(req); err != nil {
		return nil, err
	}
	return &mediaservicepb.InterruptIvrCommandResponse{Success: true}, nil
}

func (s *sessiond) GetSession(_ context.Context, req *callspb.GetSessionRequest) (*callspb.GetSessionResponse, error) {
	if err := s.saw(req); err != nil {
		return nil, err
	}
	if s.session == nil || req.GetToken() != s.session.GetToken() {
		return nil, fault.New(fault.SessionNotFound, "session %s not found", req.GetToken())
	}
	return &callspb.GetSessionResponse{Session: s.session}, nil
}

// recordingd keeps files in memory.
type recordingd struct {
	recordingpb.UnimplementedPromptsServer
	mediaservicepb.UnimplementedPromptFilesServer

	mu    sync.Mutex
	files map[string][]byte
	// breakAfter cuts downloads off after that many messages.
	breakAfter int
	aborted    chan error
}

func (r *recordingd) PutPrompt(stream grpc.ClientStreamingServer[recordingpb.PutPromptRequest, recordingpb.PutPromptResponse]) error {
	var data []byte
	var name string
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.aborted <- err
			return err
		}
		if msg.GetName() != "" {
			name = msg.GetName()
		}
		if strings.HasPrefix(name, ".") {
			return fault.New(fault.BadRequest, "filename must not begin with a dot").On("filename")
		}
		data = append(data, msg.GetData()...)
	}
	if len(data) == 0 {
		return fault.New(fault.PromptInvalid, "the file is empty")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = data
	return stream.SendAndClose(&recordingpb.PutPromptResponse{})
}

func (r *recordingd) OpenPrompt(req *recordingpb.OpenPromptRequest, stream grpc.ServerStreamingServer[recordingpb.OpenPromptResponse]) error {
	r.mu.Lock()
	data, ok := r.files[req.GetName()]
	r.mu.Unlock()
	if !ok {
		return fault.New(fault.PromptNotFound, "there is no file %s", req.GetName())
	}
	msg := &recordingpb.OpenPromptResponse{Head: &recordingpb.PromptHead{
		Name: req.GetName(), Size: int64(len(data)), Etag: "abc", ContentType: "audio/wav",
	}}
	if req.GetIfNoneMatch() == "abc" {
		msg.NotModified = true
		return stream.Send(msg)
	}
	for sent := 1; ; sent++ {
		n := min(len(data), 1000)
		msg.Data, data = data[:n], data[n:]
		if err := stream.Send(msg); err != nil {
			return err
		}
		if r.breakAfter == sent {
			return fault.New(fault.Unavailable, "disk gone")
		}
		if len(data) == 0 {
			return nil
		}
		msg = &recordingpb.OpenPromptResponse{}
	}
}

func (r *recordingd) ListPromptFiles(_ context.Context, req *mediaservicepb.ListPromptFilesRequest) (*mediaservicepb.ListPromptFilesResponse, error) {
	resp := &mediaservicepb.ListPromptFilesResponse{Success: true}
	if req.GetNext() == "" {
		next := "Y3Vyc29y"
		resp.Next = &next
		resp.Files = []*mediaservicepb.PromptFile{{Name: "menu.wav", Size: 48044}, {Name: "welcome.wav", Size: 9_007_199_254_740_000}}
	}
	return resp, nil
}

func (r *recordingd) DeletePromptFile(_ context.Context, req *mediaservicepb.DeletePromptFileRequest) (*mediaservicepb.DeletePromptFileResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.files[req.GetFilename()]; !ok {
		return nil, fault.New(fault.PromptNotFound, "there is no file %s", req.GetFilename())
	}
	delete(r.files, req.GetFilename())
	return &mediaservicepb.DeletePromptFileResponse{Success: true}, nil
}

// house is a gateway on a port of its own with both daemons behind it.
type house struct {
	url        string
	sessiond   *sessiond
	recordingd *recordingd
	metrics    *prometheus.Registry
	log        *syncBuffer
	stop       func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func open(t testing.TB, adjust ...func(*gateway.Config)) *house {
	t.Helper()
	signer, err := principal.NewSigner(bytes.Repeat([]byte{7}, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		sessiond:   &sessiond{session: sample()},
		recordingd: &recordingd{files: map[string][]byte{}, aborted: make(chan error, 1)},
		metrics:    prometheus.NewRegistry(), log: &syncBuffer{},
	}
	m := &mesh.Memory{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := gateway.Defaults()
	cfg.Listener = l
	for _, f := range adjust {
		f(&cfg)
	}
	env := daemon.Env{
		Service: "gateway", Instance: "gateway-1", Mesh: m, Signer: signer,
		Log: slog.New(slog.NewJSONHandler(h.log, nil)), Metrics: h.metrics, Now: time.Now,
	}
	parts, err := gateway.Parts(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	parts = append(peers(m, signer, h), parts...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- run.All(ctx, slog.New(slog.DiscardHandler), 5*time.Second, func() { close(ready) }, parts...)
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("gateway did not start: %v", err)
	}
	h.url = "http://" + l.Addr().String()
	h.stop = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func peers(m mesh.Mesh, signer *principal.Signer, h *house) []run.Part {
	log := slog.New(slog.DiscardHandler)
	customers := grpckit.Roles("domain", "admin")
	s := grpckit.NewServer(grpckit.Options{Service: "sessiond", Mesh: m, Signer: signer, Log: log})
	s.Add(&directorypb.Credentials_ServiceDesc, h.sessiond, map[string]grpckit.Access{"VerifyKey": grpckit.Services("gateway")})
	s.Add(&mediaservicepb.Calls_ServiceDesc, h.sessiond, map[string]grpckit.Access{"HangUpCall": customers, "InterruptIvrCommand": customers})
	s.Add(&callspb.Sessions_ServiceDesc, h.sessiond, map[string]grpckit.Access{"GetSession": customers})
	r := grpckit.NewServer(grpckit.Options{Service: "recordingd", Mesh: m, Signer: signer, Log: log})
	r.Add(&recordingpb.Prompts_ServiceDesc, h.recordingd, map[string]grpckit.Access{
		"PutPrompt": customers, "OpenPrompt": customers, "DeletePrompt": customers, "ListPrompts": customers,
	})
	r.Add(&mediaservicepb.PromptFiles_ServiceDesc, h.recordingd, map[string]grpckit.Access{"ListPromptFiles": customers, "DeletePromptFile": customers})
	return []run.Part{s.Part(), r.Part()}
}

// request sends one request and returns status, headers and body.
func (h *house) request(t testing.TB, method, path, key, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}
