package dialog

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// ToRecord is the dialog as the session record stores it.
func (d *Dialog) ToRecord() *sessionpb.Dialog {
	p := &sessionpb.Dialog{
		Leg: uint32(d.Leg), CallId: d.CallID, LocalTag: d.LocalTag, RemoteTag: d.RemoteTag,
		LocalUri: d.LocalURI, RemoteUri: d.RemoteURI, RemoteTarget: d.RemoteTarget,
		RouteSet: slices.Clone(d.RouteSet), LocalCseq: d.LocalCSeq, RemoteCseq: d.RemoteCSeq,
		Secure: d.Secure, Transport: d.Transport, Source: d.Source, InviteCseq: d.InviteCSeq,
		LocalSdp: d.LocalSDP, RemoteSdp: d.RemoteSDP,
	}
	if !d.Accepted.IsZero() {
		p.Accepted = timestamppb.New(d.Accepted)
	}
	return p
}

// FromRecord is the inverse of ToRecord.
func FromRecord(p *sessionpb.Dialog) Dialog {
	d := Dialog{
		Leg: uint8(p.GetLeg()), CallID: p.GetCallId(), LocalTag: p.GetLocalTag(), RemoteTag: p.GetRemoteTag(),
		LocalURI: p.GetLocalUri(), RemoteURI: p.GetRemoteUri(), RemoteTarget: p.GetRemoteTarget(),
		RouteSet: slices.Clone(p.GetRouteSet()), LocalCSeq: p.GetLocalCseq(), RemoteCSeq: p.GetRemoteCseq(),
		Secure: p.GetSecure(), Transport: p.GetTransport(), Source: p.GetSource(), InviteCSeq: p.GetInviteCseq(),
		LocalSDP: p.GetLocalSdp(), RemoteSDP: p.GetRemoteSdp(),
	}
	if p.GetAccepted() != nil {
		d.Accepted = p.GetAccepted().AsTime().In(time.UTC)
	}
	return d
}
