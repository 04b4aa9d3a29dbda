package ivrd_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// mediad behaves as media.proto says, with the test in the place of time and
// callers: a step ends when the test says so.
type mediad struct {
	mediapb.UnimplementedMediaServer

	mu    sync.Mutex
	legs  map[string]*leg
	clips map[string][]byte
	// changed is closed and replaced at every event and attachment.
	changed chan struct{}
	steps   chan started
	stopped chan string
	puts    int
	// away: nothing is answered, streams end.
	away bool
}

type leg struct {
	grant      uint64
	controller string
	step       *mediapb.Step
	events     []*mediapb.WatchResponse
	sequence   uint64
}

// started is a step that a leg began.
type started struct {
	Leg, Controller string
	*mediapb.Step
}

func newMediad() *mediad {
	return &mediad{
		legs: map[string]*leg{}, clips: map[string][]byte{}, changed: make(chan struct{}),
		steps: make(chan started, 100), stopped: make(chan string, 100),
	}
}

func (m *mediad) register(s *grpckit.Server) {
	only := grpckit.Services("ivrd", "sessiond")
	s.Add(&mediapb.Media_ServiceDesc, m, map[string]grpckit.Access{
		"CreateLeg": only, "UpdateLeg": only, "SetGrant": only, "CloseLeg": only, "RunStep": only, "StopStep": only,
		"InjectDigit": only, "SendDigits": only, "PutClip": only, "Watch": only, "GetLeg": only,
	})
}

func (m *mediad) create(id string, grant uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.legs[id] = &leg{grant: grant}
}

func (m *mediad) close(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.legs, id)
}

func (m *mediad) forgetClips() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clips = map[string][]byte{}
}

// goAway makes the instance unreachable, or reachable again.
func (m *mediad) goAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
	m.wake()
}

// grant is what sessiond does when somebody else shall command the leg.
func (m *mediad) grant(id string, grant uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.legs[id]
	l.grant = grant
	if l.step != nil {
		m.emit(id, &mediapb.StepResult{StepId: l.step.GetStepId(), Reason: mediapb.StepResult_REASON_REVOKED})
		l.step = nil
	}
}

// finish ends the step that runs; it fails the test if it is not the one named.
func (m *mediad) finish(t testing.TB, id string, r *mediapb.StepResult) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.legs[id]
	if l == nil || l.step == nil || l.step.GetStepId() != r.GetStepId() {
		t.Fatalf("step %s does not run", r.GetStepId())
	}
	l.step = nil
	m.emit(id, r)
}

// drop makes the leg forget its step without a result, as if it had never been
// started.
func (m *mediad) drop(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.legs[id].step = nil
}

// emit keeps an event; the caller holds the lock.
func (m *mediad) emit(id string, r *mediapb.StepResult) {
	l := m.legs[id]
	l.sequence++
	l.events = append(l.events, &mediapb.WatchResponse{
		LegId: id, Sequence: l.sequence, Event: &mediapb.WatchResponse_StepResult{StepResult: r},
	})
	m.wake()
}

func (m *mediad) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *mediad) find(id string, grant uint64) (*leg, error) {
	if m.away {
		return nil, fault.New(fault.Unavailable, "away")
	}
	l := m.legs[id]
	if l == nil {
		return nil, fault.New(fault.LegNotFound, "leg not found").On("leg_id")
	}
	if grant < l.grant {
		return nil, fault.New(fault.StaleGrant, "grant is stale").On("grant")
	}
	return l, nil
}

func (m *mediad) RunStep(_ context.Context, req *mediapb.RunStepRequest) (*mediapb.RunStepResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.find(req.GetLegId(), req.GetGrant())
	if err != nil {
		return nil, err
	}
	wanted := slices.Clone(req.GetStep().GetPlaylist())
	if id := req.GetStep().GetBackground().GetClipId(); id != "" {
		wanted = append(wanted, id)
	}
	var missing []string
	for _, id := range wanted {
		if m.clips[id] == nil && !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	if missing != nil {
		return &mediapb.RunStepResponse{MissingClips: missing}, nil
	}
	l.step, l.controller = proto.CloneOf(req.GetStep()), req.GetController()
	m.wake()
	m.steps <- started{Leg: req.GetLegId(), Controller: req.GetController(), Step: l.step}
	return &mediapb.RunStepResponse{}, nil
}

func (m *mediad) StopStep(_ context.Context, req *mediapb.StopStepRequest) (*mediapb.StopStepResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.find(req.GetLegId(), req.GetGrant())
	if err != nil {
		return nil, err
	}
	if l.step == nil || l.step.GetStepId() != req.GetStepId() {
		return &mediapb.StopStepResponse{}, nil
	}
	m.emit(req.GetLegId(), &mediapb.StepResult{StepId: req.GetStepId(), Reason: mediapb.StepResult_REASON_INTERRUPTED})
	l.step = nil
	m.stopped <- req.GetStepId()
	return &mediapb.StopStepResponse{Stopped: true}, nil
}

func (m *mediad) GetLeg(_ context.Context, req *mediapb.GetLegRequest) (*mediapb.GetLegResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.find(req.GetLegId(), 1<<63)
	if err != nil {
		return nil, err
	}
	return &mediapb.GetLegResponse{Grant: l.grant, StepId: l.step.GetStepId()}, nil
}

func (m *mediad) PutClip(stream grpc.ClientStreamingServer[mediapb.PutClipRequest, mediapb.PutClipResponse]) error {
	var id string
	var samples []byte
	for first := true; ; first = false {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if first {
			id = req.GetClipId()
		}
		samples = append(samples, req.GetSamples()...)
	}
	m.mu.Lock()
	m.clips[id] = samples
	m.puts++
	m.mu.Unlock()
	return stream.SendAndClose(&mediapb.PutClipResponse{})
}

func (m *mediad) Watch(req *mediapb.WatchRequest, stream grpc.ServerStreamingServer[mediapb.WatchResponse]) error {
	sent := map[string]uint64{}
	ready := &mediapb.Ready{}
	m.mu.Lock()
	for _, c := range req.GetCursors() {
		if l := m.legs[c.GetLegId()]; l != nil {
			l.controller = req.GetController()
			sent[c.GetLegId()] = c.GetSequence()
		} else {
			ready.UnknownLegs = append(ready.UnknownLegs, c.GetLegId())
		}
	}
	away := m.away
	m.mu.Unlock()
	if away {
		return fault.New(fault.Unavailable, "away")
	}
	if err := stream.Send(&mediapb.WatchResponse{Event: &mediapb.WatchResponse_Ready{Ready: ready}}); err != nil {
		return err
	}
	for {
		m.mu.Lock()
		var due []*mediapb.WatchResponse
		for id, l := range m.legs {
			if l.controller != req.GetController() {
				continue
			}
			for _, ev := range l.events {
				if ev.GetSequence() > sent[id] {
					due = append(due, ev)
					sent[id] = ev.GetSequence()
				}
			}
		}
		changed, away := m.changed, m.away
		m.mu.Unlock()
		if away {
			return fault.New(fault.Unavailable, "away")
		}
		for _, ev := range due {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// next returns the step that was started next.
func (m *mediad) next(t testing.TB) started {
	t.Helper()
	return receive(t, m.steps, "a step")
}

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come within %s", what, patience)
		panic("unreachable")
	}
}

// silent fails the test if something comes that must not.
func silent[T any](t testing.TB, from <-chan T, what string) {
	t.Helper()
	select {
	case v := <-from:
		t.Fatalf("%s came: %v", what, v)
	case <-time.After(200 * time.Millisecond):
	}
}
