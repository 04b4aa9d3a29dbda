package rpc

import (
	"context"

	"github.com/callmesh/callmesh/kit/fault"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/control"
	"github.com/callmesh/callmesh/sessiond/internal/peers"
)

// Callbacks puts other daemons' questions and notifications to the application.
type Callbacks struct {
	sessionpb.UnsafeCallbacksServer
	Verbs Verbs
	Peers *peers.Peers
}

// questions are those that other daemons may ask.
var questions = map[string]bool{"getIvrCommand": true}

// notifications are those that other daemons may send.
var notifications = map[string]bool{"alarm": true, "fileRecorded": true, "recordingReady": true}

// Ask puts a question to the session's application.
func (s *Callbacks) Ask(ctx context.Context, req *sessionpb.AskRequest) (*sessionpb.AskResponse, error) {
	id, err := sessionID(req.GetSessionId(), "session_id")
	if err != nil {
		return nil, err
	}
	participant, err := participantID(req.GetParticipantId())
	if err != nil {
		return nil, err
	}
	if !questions[req.GetKind()] {
		return nil, fault.New(fault.BadRequest, "%q is no question", clip(req.GetKind())).On("kind")
	}
	if passOn(ctx, s.Verbs, id) {
		return peers.Pass[sessionpb.AskResponse](ctx, s.Peers, id, sessionpb.Callbacks_Ask_FullMethodName, req)
	}
	answer, replyID, err := s.Verbs.Ask(ctx, control.Inquiry{
		Session: id, Participant: participant, Name: req.GetKind(), Body: req.GetBody(), Command: req.GetCommandId(), Grant: req.GetGrant(),
	})
	if err != nil {
		return nil, err
	}
	return &sessionpb.AskResponse{Body: answer, ReplyId: replyID}, nil
}

// Notify queues a notification. Any instance may: the lanes are in the store.
func (s *Callbacks) Notify(ctx context.Context, req *sessionpb.NotifyRequest) (*sessionpb.NotifyResponse, error) {
	id, err := sessionID(req.GetSessionId(), "session_id")
	if err != nil {
		return nil, err
	}
	if !notifications[req.GetKind()] {
		return nil, fault.New(fault.BadRequest, "%q is no notification", clip(req.GetKind())).On("kind")
	}
	if req.GetDedupeKey() == "" {
		return nil, fault.New(fault.BadRequest, "dedupe_key is required").On("dedupe_key")
	}
	duplicate, err := s.Verbs.Notify(ctx, control.Notice{Session: id, DedupeKey: req.GetDedupeKey(), Kind: req.GetKind(), Body: req.GetBody()})
	if err != nil {
		return nil, err
	}
	return &sessionpb.NotifyResponse{Duplicate: duplicate}, nil
}

// DialogueOwner hears from ivrd.
type DialogueOwner struct {
	sessionpb.UnsafeDialogueOwnerServer
	Verbs Verbs
	Peers *peers.Peers
}

// EndDialogue takes an ivrd's word that a dialogue is over.
func (s *DialogueOwner) EndDialogue(ctx context.Context, req *sessionpb.EndDialogueRequest) (*sessionpb.EndDialogueResponse, error) {
	id, err := sessionID(req.GetSessionId(), "session_id")
	if err != nil {
		return nil, err
	}
	participant, err := participantID(req.GetParticipantId())
	if err != nil {
		return nil, err
	}
	if passOn(ctx, s.Verbs, id) {
		return peers.Pass[sessionpb.EndDialogueResponse](ctx, s.Peers, id, sessionpb.DialogueOwner_EndDialogue_FullMethodName, req)
	}
	failed := req.GetOutcome() != sessionpb.EndDialogueRequest_OUTCOME_HANGUP
	return &sessionpb.EndDialogueResponse{}, s.Verbs.EndDialogue(ctx, id, participant, req.GetGrant(), failed, req.GetDetail())
}
