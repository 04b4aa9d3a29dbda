package rpc

import (
	"context"

	"github.com/callmesh/callmesh/kit/fault"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// Phone takes SIP messages that another instance received for us.
type Phone interface {
	Deliver(ctx context.Context, raw []byte, transport, source, local string) (response []byte, err error)
}

// Peers is spoken among sessionds.
type Peers struct {
	sessionpb.UnsafePeersServer
	Instance string
	Phone    Phone
}

// Deliver takes a SIP request that arrived at the wrong instance.
func (s *Peers) Deliver(ctx context.Context, req *sessionpb.DeliverRequest) (*sessionpb.DeliverResponse, error) {
	if req.GetHops() > 1 {
		return nil, fault.New(fault.BadRequest, "the message was passed on before").On("hops")
	}
	response, err := s.Phone.Deliver(ctx, req.GetMessage(), req.GetTransport(), req.GetSource(), req.GetLocal())
	if err != nil {
		return nil, err
	}
	return &sessionpb.DeliverResponse{Response: response}, nil
}

// Ping says that this instance is alive, and which one it is.
func (s *Peers) Ping(context.Context, *sessionpb.PingRequest) (*sessionpb.PingResponse, error) {
	return &sessionpb.PingResponse{Instance: s.Instance}, nil
}
