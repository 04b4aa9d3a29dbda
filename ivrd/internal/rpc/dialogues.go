// Package rpc speaks ivrd's gRPC: it reads a request, asks the dialogues, and
// answers.
package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/dialogue"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/principal"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
)

// dialogues is what this package needs of the service.
type dialogues interface {
	Start(ctx context.Context, d cursor.Dialogue, first *command.Command) (address string, err error)
	Stop(ctx context.Context, participant string, forwarded bool) error
	Interrupt(ctx context.Context, participant, commandID string, forwarded bool) error
}

// Dialogues is the gRPC service callmesh.ivr.v1.Dialogues.
type Dialogues struct {
	ivrpb.UnimplementedDialoguesServer
	dialogues dialogues
}

// NewDialogues returns the gRPC service over the dialogues.
func NewDialogues(d dialogues) *Dialogues { return &Dialogues{dialogues: d} }

// Access names who may call: sessiond, and other instances that pass a request
// on to the one in charge.
func Access() map[string]grpckit.Access {
	return map[string]grpckit.Access{
		"Start":     grpckit.Services("sessiond"),
		"Stop":      grpckit.Services("sessiond", dialogue.ServiceName),
		"Interrupt": grpckit.Services("sessiond", dialogue.ServiceName),
	}
}

// Start begins a dialogue.
func (s *Dialogues) Start(ctx context.Context, req *ivrpb.StartRequest) (*ivrpb.StartResponse, error) {
	if err := required(
		"session_id", req.GetSessionId(), "participant_id", req.GetParticipantId(), "domain", req.GetDomain(),
		"leg_id", req.GetLegId(), "media_address", req.GetMediaAddress(),
	); err != nil {
		return nil, err
	}
	first, err := firstCommand(req.GetCommand())
	if err != nil {
		return nil, err
	}
	address, err := s.dialogues.Start(ctx, cursor.Dialogue{
		Session: req.GetSessionId(), Participant: req.GetParticipantId(), Domain: req.GetDomain(),
		Leg: req.GetLegId(), MediaAddress: req.GetMediaAddress(), Grant: req.GetGrant(),
		AllowPrivate: req.GetAllowPrivate(),
	}, first)
	if err != nil {
		return nil, err
	}
	return &ivrpb.StartResponse{Address: address}, nil
}

// firstCommand reads the command that a start may carry.
func firstCommand(body []byte) (*command.Command, error) {
	if len(body) == 0 {
		return nil, nil
	}
	cmd, err := command.Parse(body)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "%s", err).On("command")
	}
	return &cmd, nil
}

// Stop ends a dialogue.
func (s *Dialogues) Stop(ctx context.Context, req *ivrpb.StopRequest) (*ivrpb.StopResponse, error) {
	if err := required("participant_id", req.GetParticipantId()); err != nil {
		return nil, err
	}
	if err := s.dialogues.Stop(ctx, req.GetParticipantId(), forwarded(ctx)); err != nil {
		return nil, err
	}
	return &ivrpb.StopResponse{}, nil
}

// Interrupt stops the command that runs.
func (s *Dialogues) Interrupt(ctx context.Context, req *ivrpb.InterruptRequest) (*ivrpb.InterruptResponse, error) {
	if err := required("participant_id", req.GetParticipantId(), "command_id", req.GetCommandId()); err != nil {
		return nil, err
	}
	if err := s.dialogues.Interrupt(ctx, req.GetParticipantId(), req.GetCommandId(), forwarded(ctx)); err != nil {
		return nil, err
	}
	return &ivrpb.InterruptResponse{}, nil
}

// required takes pairs of a field's name and its value.
func required(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return fault.New(fault.BadRequest, "%s is missing", pairs[i]).On(pairs[i])
		}
	}
	return nil
}

// forwarded tells a request that another instance passed on: it goes no further.
func forwarded(ctx context.Context) bool {
	return principal.From(ctx).Service == dialogue.ServiceName
}

// dialer reaches one instance.
type dialer interface {
	Instance(address string) (*grpc.ClientConn, error)
}

// Forwarder passes requests on to the instance in charge.
type Forwarder struct{ dialer dialer }

// NewForwarder returns a forwarder.
func NewForwarder(d dialer) Forwarder { return Forwarder{dialer: d} }

// Stop passes Stop on.
func (f Forwarder) Stop(ctx context.Context, address string, d cursor.Dialogue) error {
	conn, err := f.dialer.Instance(address)
	if err != nil {
		return err
	}
	_, err = ivrpb.NewDialoguesClient(conn).Stop(ctx, &ivrpb.StopRequest{SessionId: d.Session, ParticipantId: d.Participant})
	return err
}

// Interrupt passes Interrupt on.
func (f Forwarder) Interrupt(ctx context.Context, address string, d cursor.Dialogue, commandID string) error {
	conn, err := f.dialer.Instance(address)
	if err != nil {
		return err
	}
	_, err = ivrpb.NewDialoguesClient(conn).Interrupt(ctx, &ivrpb.InterruptRequest{
		SessionId: d.Session, ParticipantId: d.Participant, CommandId: commandID,
	})
	return err
}
