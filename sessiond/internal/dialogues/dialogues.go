// Package dialogues is sessiond's way to the IVR servers.
package dialogues

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/fault"
	commonpb "github.com/callmesh/callmesh/proto/gen/callmesh/common/v1"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	"github.com/callmesh/callmesh/sessiond/internal/control"
)

// Dialer reaches daemons.
type Dialer interface {
	Service(name string) (*grpc.ClientConn, error)
	Instance(address string) (*grpc.ClientConn, error)
}

// Client starts and stops dialogues.
type Client struct{ dialer Dialer }

var _ control.Dialogues = Client{}

// New returns a client.
func New(d Dialer) Client { return Client{dialer: d} }

const service = "ivrd"

// Start hands a participant to any ivrd and returns the address of the one
// that took it. One that cannot be reached is passed over: starting the same
// participant again changes nothing.
func (c Client) Start(ctx context.Context, d control.Dialogue) (string, error) {
	conn, err := c.dialer.Service(service)
	if err != nil {
		return "", err
	}
	req := &ivrpb.StartRequest{
		SessionId: d.Session.String(), ParticipantId: d.Participant.String(), Domain: d.Domain, LegId: d.LegID,
		MediaAddress: d.MediaAddress, Grant: d.Grant, SessionReferenceId: &commonpb.RawJson{Json: d.ReferenceID},
		Command: d.Command, AllowPrivate: d.AllowPrivate,
	}
	var last error
	for range 2 {
		resp, err := ivrpb.NewDialoguesClient(conn).Start(ctx, req)
		if err == nil {
			return resp.GetAddress(), nil
		}
		last = err
		if fault.ReasonOf(err) != fault.Unavailable {
			break
		}
	}
	return "", last
}

// Stop ends a dialogue. It is sent to the ivrd in charge, or, if that is gone,
// to any: one of them has taken the dialogue over.
func (c Client) Stop(ctx context.Context, address string, session, participant uuid.UUID) error {
	req := &ivrpb.StopRequest{SessionId: session.String(), ParticipantId: participant.String()}
	return c.there(address, func(client ivrpb.DialoguesClient) error {
		_, err := client.Stop(ctx, req)
		return err
	})
}

// Interrupt stops the running command.
func (c Client) Interrupt(ctx context.Context, address string, session, participant uuid.UUID, command string) error {
	req := &ivrpb.InterruptRequest{SessionId: session.String(), ParticipantId: participant.String(), CommandId: command}
	return c.there(address, func(client ivrpb.DialoguesClient) error {
		_, err := client.Interrupt(ctx, req)
		return err
	})
}

func (c Client) there(address string, do func(ivrpb.DialoguesClient) error) error {
	conn, err := c.dialer.Instance(address)
	if err == nil {
		err = do(ivrpb.NewDialoguesClient(conn))
	}
	if fault.ReasonOf(err) != fault.Unavailable {
		return err
	}
	anyone, dialErr := c.dialer.Service(service)
	if dialErr != nil {
		return err
	}
	return do(ivrpb.NewDialoguesClient(anyone))
}
