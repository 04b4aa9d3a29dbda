// Package rpc is the gRPC face of mediad: it turns messages into commands of
// package control and legs' events into messages.
package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/control"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/telephonyevent"
	"github.com/callmesh/callmesh/mediad/internal/watch"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// Access names the callers: sessiond owns legs, ivrd commands them.
func Access() map[string]grpckit.Access {
	sessions := grpckit.Services("sessiond")
	both := grpckit.Services("sessiond", "ivrd")
	return map[string]grpckit.Access{
		"CreateLeg": sessions, "UpdateLeg": sessions, "SetGrant": sessions, "CloseLeg": sessions,
		"InjectDigit": sessions, "SendDigits": both,
		"RunStep": both, "StopStep": both, "PutClip": both, "Watch": both, "GetLeg": both,
	}
}

// Server implements the Media service.
type Server struct {
	mediapb.UnimplementedMediaServer
	media   *control.Media
	maxClip int
}

// New makes a server; clips above maxClip bytes are refused.
func New(media *control.Media, maxClip int) *Server { return &Server{media: media, maxClip: maxClip} }

// CreateLeg leases ports and starts a leg.
func (s *Server) CreateLeg(ctx context.Context, r *mediapb.CreateLegRequest) (*mediapb.CreateLegResponse, error) {
	if err := errors.Join(required("leg_id", r.GetLegId()), required("session_id", r.GetSessionId()), required("controller", r.GetController())); err != nil {
		return nil, first(err)
	}
	d, err := description(r.GetDescription(), s.media.Codecs)
	if err != nil {
		return nil, err
	}
	timeout, err := duration("rtp_timeout", r.GetRtpTimeout(), control.DefaultRTPTimeout)
	if err != nil {
		return nil, err
	}
	local, err := s.media.Create(ctx, control.NewLeg{
		Identity:   leg.Identity{Leg: r.GetLegId(), Session: r.GetSessionId(), Participant: r.GetParticipantId()},
		Controller: r.GetController(), Grant: r.GetGrant(), Description: d, IPv6: r.GetIpv6(), RTPTimeout: timeout,
	})
	if err != nil {
		return nil, err
	}
	return &mediapb.CreateLegResponse{LegId: r.GetLegId(), LocalAddress: local.Addr().String(), LocalPort: uint32(local.Port())}, nil
}

// UpdateLeg applies a new description.
func (s *Server) UpdateLeg(ctx context.Context, r *mediapb.UpdateLegRequest) (*mediapb.UpdateLegResponse, error) {
	d, err := description(r.GetDescription(), s.media.Codecs)
	if err != nil {
		return nil, err
	}
	return &mediapb.UpdateLegResponse{}, s.media.Update(ctx, r.GetLegId(), d)
}

// SetGrant changes who commands the leg.
func (s *Server) SetGrant(ctx context.Context, r *mediapb.SetGrantRequest) (*mediapb.SetGrantResponse, error) {
	return &mediapb.SetGrantResponse{}, s.media.SetGrant(ctx, r.GetLegId(), r.GetGrant())
}

// CloseLeg ends the leg.
func (s *Server) CloseLeg(ctx context.Context, r *mediapb.CloseLegRequest) (*mediapb.CloseLegResponse, error) {
	figures, ok, err := s.media.Close(ctx, r.GetLegId())
	if err != nil || !ok {
		return &mediapb.CloseLegResponse{}, err
	}
	return &mediapb.CloseLegResponse{Statistics: statistics(figures)}, nil
}

// GetLeg returns a leg's figures.
func (s *Server) GetLeg(ctx context.Context, r *mediapb.GetLegRequest) (*mediapb.GetLegResponse, error) {
	state, err := s.media.Get(ctx, r.GetLegId())
	if err != nil {
		return nil, err
	}
	return &mediapb.GetLegResponse{Statistics: statistics(state.Statistics), Grant: state.Grant, StepId: state.Step}, nil
}

// RunStep starts a step.
func (s *Server) RunStep(ctx context.Context, r *mediapb.RunStepRequest) (*mediapb.RunStepResponse, error) {
	n, err := newStep(r)
	if err != nil {
		return nil, err
	}
	missing, err := s.media.Run(ctx, n)
	if err != nil {
		return nil, err
	}
	return &mediapb.RunStepResponse{MissingClips: missing}, nil
}

// StopStep ends the running step.
func (s *Server) StopStep(ctx context.Context, r *mediapb.StopStepRequest) (*mediapb.StopStepResponse, error) {
	stopped, err := s.media.Stop(ctx, r.GetLegId(), r.GetGrant(), r.GetStepId())
	if err != nil {
		return nil, err
	}
	return &mediapb.StopStepResponse{Stopped: stopped}, nil
}

// InjectDigit enters a digit of SIP INFO.
func (s *Server) InjectDigit(ctx context.Context, r *mediapb.InjectDigitRequest) (*mediapb.InjectDigitResponse, error) {
	if len(r.GetDigit()) != 1 || !telephonyevent.IsKey(r.GetDigit()[0]) {
		return nil, fault.New(fault.BadRequest, "want one of 0-9 * # A-D").On("digit")
	}
	return &mediapb.InjectDigitResponse{}, s.media.Inject(ctx, r.GetLegId(), r.GetDigit()[0])
}

// Limits of sent digits: shorter ones are not recognised (Q.24), longer ones
// nobody means.
const (
	defaultTone = 100 * time.Millisecond
	minTone     = 40 * time.Millisecond
	maxTone     = 5 * time.Second
)

// SendDigits sends RFC 4733 events.
func (s *Server) SendDigits(ctx context.Context, r *mediapb.SendDigitsRequest) (*mediapb.SendDigitsResponse, error) {
	tone, err := duration("duration", r.GetDuration(), defaultTone)
	if err != nil {
		return nil, err
	}
	pause, err := duration("pause", r.GetPause(), defaultTone)
	if err != nil {
		return nil, err
	}
	if tone < minTone || tone > maxTone {
		return nil, fault.New(fault.BadRequest, "want a tone of %v to %v", minTone, maxTone).On("duration")
	}
	if pause < minTone || pause > maxTone {
		return nil, fault.New(fault.BadRequest, "want a pause of %v to %v", minTone, maxTone).On("pause")
	}
	return &mediapb.SendDigitsResponse{}, s.media.SendKeys(ctx, r.GetLegId(), r.GetDigits(), tone, pause)
}

// PutClip stores audio.
func (s *Server) PutClip(stream grpc.ClientStreamingServer[mediapb.PutClipRequest, mediapb.PutClipResponse]) error {
	var (
		id      string
		samples []byte
	)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if id == "" {
			id = r.GetClipId()
		}
		if len(samples)+len(r.GetSamples()) > s.maxClip {
			return fault.New(fault.TooLarge, "a clip may have %d bytes", s.maxClip).On("samples")
		}
		samples = append(samples, r.GetSamples()...)
	}
	if len(samples)%2 != 0 {
		return fault.New(fault.BadRequest, "samples are 16 bits: want an even number of bytes").On("samples")
	}
	c, err := s.media.Clips.Put(id, samples)
	switch {
	case errors.Is(err, clip.ErrHash):
		return fault.New(fault.BadRequest, "clip_id is not the SHA-256 of the samples").On("clip_id")
	case errors.Is(err, clip.ErrNoRoom):
		return fault.New(fault.Unavailable, "clips in use fill the memory set aside for them").Because(err)
	case err != nil:
		return err
	}
	return stream.SendAndClose(&mediapb.PutClipResponse{Length: protoDuration(c.Length())})
}

// Watch streams events.
func (s *Server) Watch(r *mediapb.WatchRequest, stream grpc.ServerStreamingServer[mediapb.WatchResponse]) error {
	if err := required("controller", r.GetController()); err != nil {
		return err
	}
	seen := make(map[string]uint64, len(r.GetCursors()))
	for _, c := range r.GetCursors() {
		seen[c.GetLegId()] = c.GetSequence()
	}
	w, unknown, err := s.media.Hub.Watch(r.GetController(), seen)
	if err != nil {
		return ended(err)
	}
	defer w.Close()
	if err := stream.Send(&mediapb.WatchResponse{Event: &mediapb.WatchResponse_Ready{Ready: &mediapb.Ready{UnknownLegs: unknown}}}); err != nil {
		return err
	}
	for _, e := range w.Backlog() {
		if err := stream.Send(message(&e)); err != nil {
			return err
		}
	}
	for {
		select {
		case e := <-w.Events():
			if err := stream.Send(message(&e)); err != nil {
				return err
			}
		case <-w.Done():
			return finish(w, stream)
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// finish sends what was queued when the hub ended the watch.
func finish(w *watch.Watcher, stream grpc.ServerStreamingServer[mediapb.WatchResponse]) error {
	for {
		select {
		case e := <-w.Events():
			if err := stream.Send(message(&e)); err != nil {
				return err
			}
		default:
			return ended(w.Err())
		}
	}
}

// ended tells a watcher to come back with its cursors.
func ended(err error) error {
	if errors.Is(err, watch.ErrSlow) {
		return status.Error(codes.Aborted, "the watch fell behind: resume it with the sequence numbers seen")
	}
	return fault.New(fault.Unavailable, "this media server is going down").Because(err)
}
