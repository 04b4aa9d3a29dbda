// Package session is what dialogues say to sessiond: it alone talks to the
// customer's application and owns the call.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/kit/fault"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// Errors that a dialogue acts upon.
var (
	// ErrRevoked: the session has ended, or somebody else has the leg.
	ErrRevoked = errors.New("session: the dialogue is not wanted any more")
	// ErrUnreachable: no sessiond could be reached.
	ErrUnreachable = errors.New("session: sessiond cannot be reached")
)

// Refused is an answer that the application did not give as it should.
type Refused struct {
	// Empty: it answered without a body.
	Empty  bool
	Reason string
	cause  error
}

func (r *Refused) Error() string { return r.Reason }

// Unwrap returns the cause, for the log.
func (r *Refused) Unwrap() error { return r.cause }

// Timeouts bound the calls to sessiond.
type Timeouts struct {
	// Ask covers the application's own timeout, which sessiond knows.
	Ask time.Duration
	// Tell is for notifications and ends, which sessiond takes in at once.
	Tell time.Duration
}

// Client asks and tells sessiond.
type Client struct {
	callbacks sessionpb.CallbacksClient
	owner     sessionpb.DialogueOwnerClient
	timeouts  Timeouts
}

// New returns a client over the connection, which reaches any sessiond.
func New(conn grpc.ClientConnInterface, t Timeouts) *Client {
	return &Client{callbacks: sessionpb.NewCallbacksClient(conn), owner: sessionpb.NewDialogueOwnerClient(conn), timeouts: t}
}

// getIvrCommand is the question of contract §1.8.
const getIvrCommand = "getIvrCommand"

// Ask puts the question and returns the application's answer.
func (c *Client) Ask(ctx context.Context, d cursor.Dialogue, commandID string, q cycle.Question) ([]byte, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.Ask)
	defer cancel()
	resp, err := c.callbacks.Ask(ctx, &sessionpb.AskRequest{
		SessionId: d.Session, ParticipantId: d.Participant, Kind: getIvrCommand, Body: body,
		CommandId: commandID, Grant: d.Grant,
	})
	if err != nil {
		return nil, meaning(err)
	}
	return resp.GetBody(), nil
}

// alarm is the body of contract §1.12, less what sessiond adds.
type alarm struct {
	Type    string            `json:"type"`
	Error   string            `json:"error"`
	Details map[string]string `json:"errorDetails,omitempty"`
}

// Alarm notifies the application of an error. The same key is told once.
func (c *Client) Alarm(ctx context.Context, d cursor.Dialogue, a cycle.Alarm) error {
	body, err := json.Marshal(alarm{Type: "ivrCommandError", Error: a.Error, Details: a.Details})
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.Tell)
	defer cancel()
	_, err = c.callbacks.Notify(ctx, &sessionpb.NotifyRequest{
		SessionId: d.Session, ParticipantId: d.Participant, Kind: "alarm", Body: body,
		DedupeKey: "ivr/" + d.Participant + "/" + a.Key,
	})
	return meaning(err)
}

// End tells the owner of the session that the dialogue is over.
func (c *Client) End(ctx context.Context, d cursor.Dialogue, e cycle.End) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.Tell)
	defer cancel()
	outcome := sessionpb.EndDialogueRequest_OUTCOME_FAILED
	if e.Hangup {
		outcome = sessionpb.EndDialogueRequest_OUTCOME_HANGUP
	}
	_, err := c.owner.EndDialogue(ctx, &sessionpb.EndDialogueRequest{
		SessionId: d.Session, ParticipantId: d.Participant, Grant: d.Grant, Outcome: outcome, Detail: e.Detail,
	})
	return meaning(err)
}

// meaning sorts sessiond's faults by what a dialogue does about them.
func meaning(err error) error {
	if err == nil {
		return nil
	}
	f := fault.From(err)
	switch f.Reason {
	case fault.StaleGrant, fault.CallEnded, fault.SessionNotFound, fault.DialogueNotFound:
		return fmt.Errorf("%w: %w", ErrRevoked, err)
	case fault.Unavailable:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case fault.ApplicationFailed:
		return &Refused{Empty: f.Field == "empty", Reason: f.Message, cause: err}
	case fault.Timeout:
		return &Refused{Reason: "the application did not answer in time", cause: err}
	}
	return err
}
