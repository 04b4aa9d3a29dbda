package sessiond

import (
	"context"
	"errors"
	"time"

	"github.com/callmesh/callmesh/kit/grpckit"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
	"github.com/callmesh/callmesh/sessiond/internal/rpc"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// buildServices names every method of our gRPC services, and who may call it.
func (s *sessiond) buildServices() error {
	var (
		ivrd     = grpckit.Services("ivrd")
		gateway  = grpckit.Services("gateway")
		sessiond = grpckit.Services("sessiond")
		customer = grpckit.Roles("domain", "admin")
		lookup   = rpc.Lookup{Verbs: s.control, Live: s.store, Past: s.archive}
	)
	s.server.Add(&sessionpb.Sessions_ServiceDesc,
		&rpc.Sessions{Verbs: s.control, Lookup: lookup, Peers: s.peers}, map[string]grpckit.Access{
			"GetSession": customer.Or(gateway).Or(sessiond), "HangUp": customer.Or(gateway).Or(sessiond),
		})
	s.server.Add(&sessionpb.Callbacks_ServiceDesc, &rpc.Callbacks{Verbs: s.control, Peers: s.peers}, map[string]grpckit.Access{
		"Ask": ivrd.Or(sessiond), "Notify": ivrd.Or(grpckit.Services("recordingd")),
	})
	s.server.Add(&sessionpb.DialogueOwner_ServiceDesc, &rpc.DialogueOwner{Verbs: s.control, Peers: s.peers}, map[string]grpckit.Access{
		"EndDialogue": ivrd.Or(sessiond),
	})
	s.server.Add(&sessionpb.Peers_ServiceDesc, &rpc.Peers{Instance: s.env.Instance, Phone: s.phone}, map[string]grpckit.Access{
		"Deliver": sessiond, "Ping": sessiond,
	})
	s.server.Add(&mediaservicepb.Calls_ServiceDesc,
		&rpc.Mediaservice{Verbs: s.control, Reply: reply.NewSigner(s.keys.Reply, s.env.Now), Peers: s.peers}, map[string]grpckit.Access{
			"HangUpCall": customer.Or(sessiond), "InterruptIvrCommand": customer.Or(sessiond),
		})
	s.server.Add(&callspb.Sessions_ServiceDesc, &rpc.Calls{Lookup: lookup, Domains: s.directory}, map[string]grpckit.Access{
		"GetSession": customer.Unscoped(),
	})
	s.server.Add(&directorypb.Credentials_ServiceDesc, &rpc.Credentials{Keys: s.directory}, map[string]grpckit.Access{
		"VerifyKey": gateway,
	})
	return nil
}

// callIndex leads from a Call-ID to its legs, for messages without our tag.
type callIndex struct{ store *store.Store }

// indexFor is how long a Call-ID is known: beyond any retransmission of the
// INVITE, and for /sbc/session/{callId} as long as a call may last.
const indexFor = 5 * time.Hour

func (c callIndex) Claim(ctx context.Context, callID string, leg ua.LegRef) error {
	return c.store.IndexCall(ctx, callID, leg.Session, leg.Leg, indexFor)
}

func (c callIndex) Lookup(ctx context.Context, callID string) ([]ua.LegRef, string, error) {
	refs, err := c.store.LookupCall(ctx, callID)
	if err != nil || len(refs) == 0 {
		return nil, "", err
	}
	legs := make([]ua.LegRef, len(refs))
	for i, r := range refs {
		legs[i] = ua.LegRef{Session: r.Session, Leg: r.Leg}
	}
	stored, err := c.store.Load(ctx, refs[0].Session)
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", nil // over and archived
	}
	return legs, stored.Owner, err
}
