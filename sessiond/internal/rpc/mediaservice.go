package rpc

import (
	"context"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	"github.com/callmesh/callmesh/sessiond/internal/peers"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
)

// ReplyIDs reads replyIds.
type ReplyIDs interface {
	Verify(token, domain string) (reply.ID, error)
}

// Mediaservice steers calls by the mediaservice contract (§1.3).
type Mediaservice struct {
	mediaservicepb.UnsafeCallsServer
	Verbs Verbs
	Reply ReplyIDs
	Peers *peers.Peers
}

// HangUpCall ends the call that the replyId speaks of.
func (s *Mediaservice) HangUpCall(ctx context.Context, req *mediaservicepb.HangUpCallRequest) (*mediaservicepb.HangUpCallResponse, error) {
	id, err := s.Reply.Verify(req.GetReplyId(), req.GetDomain())
	if err != nil {
		return nil, err
	}
	if passOn(ctx, s.Verbs, id.Session) {
		resp, err := peers.Pass[mediaservicepb.HangUpCallResponse](ctx, s.Peers, id.Session, mediaservicepb.Calls_HangUpCall_FullMethodName, req)
		return resp, gone(err)
	}
	if err := s.Verbs.HangUp(ctx, req.GetDomain(), id.Session, ""); err != nil {
		return nil, gone(err)
	}
	return &mediaservicepb.HangUpCallResponse{Success: true}, nil
}

// InterruptIvrCommand stops the command whose getIvrCommand brought the replyId.
func (s *Mediaservice) InterruptIvrCommand(ctx context.Context, req *mediaservicepb.InterruptIvrCommandRequest) (*mediaservicepb.InterruptIvrCommandResponse, error) {
	if req.GetReplyId() != "" && req.GetSessionId() == "" {
		return nil, fault.New(fault.BadRequest, "sessionId is required").On("sessionId")
	}
	id, err := s.Reply.Verify(req.GetReplyId(), req.GetDomain())
	if err != nil {
		return nil, err
	}
	if session, err := sessionID(req.GetSessionId(), "sessionId"); err != nil || session != id.Session {
		return nil, fault.New(fault.ReplyIDInvalid, "replyId does not belong to sessionId").On("replyId")
	}
	if id.Command == "" || id.Participant == uuid.Nil {
		return nil, fault.New(fault.ReplyIDInvalid, "replyId is not that of a getIvrCommand").On("replyId")
	}
	if passOn(ctx, s.Verbs, id.Session) {
		resp, err := peers.Pass[mediaservicepb.InterruptIvrCommandResponse](ctx, s.Peers, id.Session, mediaservicepb.Calls_InterruptIvrCommand_FullMethodName, req)
		return resp, gone(err)
	}
	if err := s.Verbs.Interrupt(ctx, req.GetDomain(), id.Session, id.Participant, id.Command); err != nil {
		return nil, gone(err)
	}
	return &mediaservicepb.InterruptIvrCommandResponse{Success: true}, nil
}

// gone says that a session which is not found has ended: its replyId proves
// that there was one.
func gone(err error) error {
	if fault.ReasonOf(err) == fault.SessionNotFound {
		return fault.New(fault.CallEnded, "the call has ended").Because(err)
	}
	return err
}
