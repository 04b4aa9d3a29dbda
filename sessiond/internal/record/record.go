// Package record turns a session into the one message that is stored, archived
// and shown, and back. Proto stops here: call knows nothing of it.
package record

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonpb "github.com/callmesh/callmesh/proto/gen/callmesh/common/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// Stored is a session with the SIP dialogs of its legs.
type Stored struct {
	Session call.Session
	Dialogs []*sessionpb.Dialog
}

// Encode returns the bytes to store.
func Encode(s Stored) ([]byte, error) {
	r := &sessionpb.Record{
		Session: Public(s.Session), Dialogs: s.Dialogs, Stage: string(s.Session.Stage),
		DialogueFlushed: s.Session.DialogueFlushed, LegsClosed: s.Session.LegsClosed, FirstCommand: s.Session.FirstCommand,
	}
	b, err := proto.Marshal(r)
	if err != nil { // text that is not UTF-8; few calls have any
		clean(r.ProtoReflect())
		b, err = proto.Marshal(r)
	}
	if err != nil {
		return nil, fmt.Errorf("encode session %s: %w", s.Session.ID, err)
	}
	return b, nil
}

// Decode reads what Encode wrote, now or by an earlier version.
func Decode(b []byte) (Stored, error) {
	var r sessionpb.Record
	if err := proto.Unmarshal(b, &r); err != nil {
		return Stored{}, fmt.Errorf("decode session: %w", err)
	}
	s, err := private(r.GetSession())
	if err != nil {
		return Stored{}, err
	}
	s.Stage = call.Stage(r.GetStage())
	s.DialogueFlushed, s.LegsClosed, s.FirstCommand = r.GetDialogueFlushed(), r.GetLegsClosed(), r.GetFirstCommand()
	return Stored{Session: s, Dialogs: r.GetDialogs()}, nil
}

// Public returns what the APIs may see of a session.
func Public(s call.Session) *sessionpb.Session {
	return &sessionpb.Session{
		Id: s.ID.String(), Number: s.Number, Domain: s.Domain, TraceId: s.TraceID, SipCallId: s.SIPCallID,
		Direction: directions.pb(s.Direction), State: states.pb(s.State), Outcome: outcomes.pb(s.Outcome),
		Cause:   &sessionpb.Cause{SipCode: int32(s.Cause.SIPCode), Text: s.Cause.Text, By: parties.pb(s.Cause.By)},
		Created: stamp(s.Created), Started: stamp(s.Started), Answered: stamp(s.Answered), Ended: stamp(s.Ended), Modified: stamp(s.Modified),
		Caller: partyPB(s.Caller), Callee: partyPB(s.Callee), Source: endpointPB(s.Source), Destination: endpointPB(s.Destination),
		Headers: headersPB(s.Headers), Subject: s.Subject, TimeLimit: length(s.TimeLimit), Callback: s.Callback,
		Routes: raw(s.Routes), Profile: raw(s.Profile), SessionReferenceId: raw(s.ReferenceID),
		Participants: participantsPB(s.Participants), Recordings: s.Recordings, LastError: s.LastError, CompletedReason: s.CompletedReason,
	}
}

func private(p *sessionpb.Session) (call.Session, error) {
	id, err := uuid.Parse(p.GetId())
	if err != nil {
		return call.Session{}, fmt.Errorf("decode session: id: %w", err)
	}
	s := call.Session{
		ID: id, Number: p.GetNumber(), Domain: p.GetDomain(), TraceID: p.GetTraceId(), SIPCallID: p.GetSipCallId(),
		Direction: directions.call(p.GetDirection()), State: states.call(p.GetState()), Outcome: outcomes.call(p.GetOutcome()),
		Cause:   call.Cause{SIPCode: int(p.GetCause().GetSipCode()), Text: p.GetCause().GetText(), By: parties.call(p.GetCause().GetBy())},
		Created: moment(p.GetCreated()), Started: moment(p.GetStarted()), Answered: moment(p.GetAnswered()), Ended: moment(p.GetEnded()), Modified: moment(p.GetModified()),
		Caller: partyOf(p.GetCaller()), Callee: partyOf(p.GetCallee()), Source: endpointOf(p.GetSource()), Destination: endpointOf(p.GetDestination()),
		Subject: p.GetSubject(), TimeLimit: p.GetTimeLimit().AsDuration(), Callback: p.GetCallback(),
		Routes: p.GetRoutes().GetJson(), Profile: p.GetProfile().GetJson(), ReferenceID: p.GetSessionReferenceId().GetJson(),
		Recordings: p.GetRecordings(), LastError: p.GetLastError(), CompletedReason: p.GetCompletedReason(),
	}
	for _, h := range p.GetHeaders() {
		s.Headers = append(s.Headers, call.Header{Name: h.GetName(), Value: h.GetValue()})
	}
	for _, q := range p.GetParticipants() {
		participant, err := participantOf(q)
		if err != nil {
			return call.Session{}, fmt.Errorf("decode session %s: %w", id, err)
		}
		s.Participants = append(s.Participants, participant)
	}
	return s, nil
}

func participantsPB(ps []call.Participant) []*sessionpb.Participant {
	out := make([]*sessionpb.Participant, len(ps))
	for i, p := range ps {
		out[i] = &sessionpb.Participant{
			Id: p.ID.String(), Leg: uint32(p.Leg), Phase: phases.pb(p.Phase), Mode: modes.pb(p.Mode), Grant: p.Grant,
			MediaAddress: p.MediaAddress, LegId: p.LegID, DialogueAddress: p.DialogueAddress, Codec: p.Codec, OnHold: p.OnHold,
			Rtp: &sessionpb.RtpStatistics{
				PacketsReceived: p.RTP.PacketsReceived, PacketsLost: p.RTP.PacketsLost, PacketsSent: p.RTP.PacketsSent,
				JitterMs: p.RTP.JitterMs, RoundTripMs: p.RTP.RoundTripMs, Mos: p.RTP.MOS,
				RemotePacketsLost: p.RTP.RemotePacketsLost, RemoteJitterMs: p.RTP.RemoteJitterMs,
			},
		}
	}
	return out
}

func participantOf(p *sessionpb.Participant) (call.Participant, error) {
	id, err := uuid.Parse(p.GetId())
	if err != nil {
		return call.Participant{}, fmt.Errorf("participant id: %w", err)
	}
	r := p.GetRtp()
	return call.Participant{
		ID: id, Leg: uint8(p.GetLeg()), Phase: phases.call(p.GetPhase()), Mode: modes.call(p.GetMode()), Grant: p.GetGrant(),
		MediaAddress: p.GetMediaAddress(), LegID: p.GetLegId(), DialogueAddress: p.GetDialogueAddress(), Codec: p.GetCodec(), OnHold: p.GetOnHold(),
		RTP: call.Statistics{
			PacketsReceived: r.GetPacketsReceived(), PacketsLost: r.GetPacketsLost(), PacketsSent: r.GetPacketsSent(),
			JitterMs: r.GetJitterMs(), RoundTripMs: r.GetRoundTripMs(), MOS: r.GetMos(),
			RemotePacketsLost: r.GetRemotePacketsLost(), RemoteJitterMs: r.GetRemoteJitterMs(),
		},
	}, nil
}

func partyPB(p call.Party) *sessionpb.Party {
	return &sessionpb.Party{
		Number: p.Number, DisplayName: p.DisplayName, Private: p.Private, Asserted: p.Asserted,
		DivertedBy: p.DivertedBy, ReferredBy: p.ReferredBy, FromUser: p.FromUser,
	}
}

func partyOf(p *sessionpb.Party) call.Party {
	return call.Party{
		Number: p.GetNumber(), DisplayName: p.GetDisplayName(), Private: p.GetPrivate(), Asserted: p.GetAsserted(),
		DivertedBy: p.GetDivertedBy(), ReferredBy: p.GetReferredBy(), FromUser: p.GetFromUser(),
	}
}

func endpointPB(e call.Endpoint) *sessionpb.Endpoint {
	return &sessionpb.Endpoint{Trunk: e.Trunk, Subscriber: e.Subscriber, Ip: e.IP, UserAgent: e.UserAgent}
}

func endpointOf(e *sessionpb.Endpoint) call.Endpoint {
	return call.Endpoint{Trunk: e.GetTrunk(), Subscriber: e.GetSubscriber(), IP: e.GetIp(), UserAgent: e.GetUserAgent()}
}

func headersPB(hs []call.Header) []*sessionpb.Header {
	out := make([]*sessionpb.Header, len(hs))
	for i, h := range hs {
		out[i] = &sessionpb.Header{Name: h.Name, Value: h.Value}
	}
	return out
}

// The zero time and the zero length are absent, so that what never happened
// does not look like 1970.

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func length(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func raw(b []byte) *commonpb.RawJson {
	if len(b) == 0 {
		return nil
	}
	return &commonpb.RawJson{Json: b}
}
