package ivrd_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// sessiond hands every question to the test, which answers in the application's
// place.
type sessiond struct {
	sessionpb.UnimplementedCallbacksServer
	sessionpb.UnimplementedDialogueOwnerServer
	asks   chan *question
	alarms chan alarm
	ends   chan *sessionpb.EndDialogueRequest

	mu   sync.Mutex
	keys map[string]bool
	// refusals is how many calls are still answered with "unavailable".
	refusals int
}

// refuse makes the next calls fail as if no sessiond were there.
func (s *sessiond) refuse(calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = calls
}

func (s *sessiond) refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals == 0 {
		return nil
	}
	s.refusals--
	return fault.New(fault.Unavailable, "away")
}

type question struct {
	*sessionpb.AskRequest
	reply chan reply
}

type reply struct {
	body []byte
	err  error
}

type alarm struct {
	Session string            `json:"-"`
	Type    string            `json:"type"`
	Error   string            `json:"error"`
	Details map[string]string `json:"errorDetails"`
}

func newSessiond() *sessiond {
	return &sessiond{
		asks: make(chan *question, 100), alarms: make(chan alarm, 100),
		ends: make(chan *sessionpb.EndDialogueRequest, 100), keys: map[string]bool{},
	}
}

func (s *sessiond) register(server *grpckit.Server) {
	only := grpckit.Services("ivrd")
	server.Add(&sessionpb.Callbacks_ServiceDesc, s, map[string]grpckit.Access{"Ask": only, "Notify": only})
	server.Add(&sessionpb.DialogueOwner_ServiceDesc, s, map[string]grpckit.Access{"EndDialogue": only})
}

func (s *sessiond) Ask(ctx context.Context, req *sessionpb.AskRequest) (*sessionpb.AskResponse, error) {
	if err := s.refused(); err != nil {
		return nil, err
	}
	q := &question{AskRequest: req, reply: make(chan reply, 1)}
	s.asks <- q
	select {
	case r := <-q.reply:
		return &sessionpb.AskResponse{Body: r.body}, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *sessiond) Notify(_ context.Context, req *sessionpb.NotifyRequest) (*sessionpb.NotifyResponse, error) {
	if err := s.refused(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	seen := s.keys[req.GetDedupeKey()]
	s.keys[req.GetDedupeKey()] = true
	s.mu.Unlock()
	if seen {
		return &sessionpb.NotifyResponse{Duplicate: true}, nil
	}
	a := alarm{Session: req.GetSessionId()}
	if err := json.Unmarshal(req.GetBody(), &a); err != nil {
		return nil, fault.New(fault.BadRequest, "body is not JSON")
	}
	s.alarms <- a
	return &sessionpb.NotifyResponse{}, nil
}

func (s *sessiond) EndDialogue(_ context.Context, req *sessionpb.EndDialogueRequest) (*sessionpb.EndDialogueResponse, error) {
	if err := s.refused(); err != nil {
		return nil, err
	}
	s.ends <- req
	return &sessionpb.EndDialogueResponse{}, nil
}

// asked returns the next question.
func (s *sessiond) asked(t testing.TB) *question {
	t.Helper()
	return receive(t, s.asks, "getIvrCommand")
}

// answer gives the application's answer.
func (q *question) answer(body string) { q.reply <- reply{body: []byte(body)} }

func (q *question) fail(err error) { q.reply <- reply{err: err} }

// answer waits for the next question and answers it.
func (s *sessiond) answer(t testing.TB, body string) *question {
	t.Helper()
	q := s.asked(t)
	q.answer(body)
	return q
}

// recordingd holds prompt files.
type recordingd struct {
	recordingpb.UnimplementedPromptsServer
	mu      sync.Mutex
	prompts map[string][]byte
	opened  int
	sent    int
}

func newRecordingd() *recordingd { return &recordingd{prompts: map[string][]byte{}} }

func (r *recordingd) register(s *grpckit.Server) {
	only := grpckit.Services("ivrd")
	s.Add(&recordingpb.Prompts_ServiceDesc, r, map[string]grpckit.Access{
		"PutPrompt": only, "OpenPrompt": only, "DeletePrompt": only, "ListPrompts": only,
	})
}

func (r *recordingd) put(domain, name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prompts[domain+"/"+name] = data
}

func (r *recordingd) OpenPrompt(req *recordingpb.OpenPromptRequest, stream grpc.ServerStreamingServer[recordingpb.OpenPromptResponse]) error {
	r.mu.Lock()
	r.opened++
	data, ok := r.prompts[req.GetDomain()+"/"+req.GetName()]
	etag := string(rune('a'+len(data)%26)) + "-tag"
	fresh := etag == req.GetIfNoneMatch()
	if ok && !fresh {
		r.sent++
	}
	r.mu.Unlock()
	if !ok {
		return fault.New(fault.PromptNotFound, "prompt not found").On("name")
	}
	head := &recordingpb.PromptHead{Name: req.GetName(), Size: int64(len(data)), Etag: etag, ContentType: "audio/wav"}
	if fresh {
		return stream.Send(&recordingpb.OpenPromptResponse{Head: head, NotModified: true})
	}
	if err := stream.Send(&recordingpb.OpenPromptResponse{Head: head}); err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(1000, len(data))
		if err := stream.Send(&recordingpb.OpenPromptResponse{Data: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
