package rpc

import (
	"errors"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/control"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/telephonyevent"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

const (
	// maxPlaylist bounds the clips of one step.
	maxPlaylist = 256
	// maxDuration bounds every time in a request.
	maxDuration = 24 * time.Hour
	maxID       = 128
)

func required(field, value string) error {
	if value == "" {
		return fault.New(fault.BadRequest, "must not be empty").On(field)
	}
	if len(value) > maxID {
		return fault.New(fault.BadRequest, "longer than %d bytes", maxID).On(field)
	}
	return nil
}

// first of joined faults: a client is told one field at a time.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

func protoDuration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// duration reads a time that may be absent.
func duration(field string, d *durationpb.Duration, absent time.Duration) (time.Duration, error) {
	if d == nil {
		return absent, nil
	}
	v := d.AsDuration()
	if d.CheckValid() != nil || v < 0 || v > maxDuration {
		return 0, fault.New(fault.BadRequest, "want 0 to %v", maxDuration).On(field)
	}
	return v, nil
}

var directions = map[mediapb.Direction]leg.Direction{
	mediapb.Direction_DIRECTION_UNSPECIFIED: leg.SendRecv,
	mediapb.Direction_DIRECTION_SENDRECV:    leg.SendRecv,
	mediapb.Direction_DIRECTION_SENDONLY:    leg.SendOnly,
	mediapb.Direction_DIRECTION_RECVONLY:    leg.RecvOnly,
	mediapb.Direction_DIRECTION_INACTIVE:    leg.Inactive,
}

func description(p *mediapb.Description, registry *codec.Registry) (leg.Description, error) {
	if p == nil {
		return leg.Description{}, fault.New(fault.BadRequest, "must be given").On("description")
	}
	d := leg.Description{Mux: p.GetRtcpMux(), EventPayloadType: uint8(p.GetTelephoneEventPayloadType())}
	direction, ok := directions[p.GetDirection()]
	if !ok {
		return d, fault.New(fault.BadRequest, "unknown direction").On("description.direction")
	}
	d.Direction = direction
	if p.GetTelephoneEventPayloadType() > 127 {
		return d, fault.New(fault.BadRequest, "want 0 to 127").On("description.telephone_event_payload_type")
	}
	if err := remote(p, &d); err != nil {
		return d, err
	}
	for _, c := range p.GetCodecs() {
		cd, ok := registry.Lookup(c.GetName(), int(c.GetClockRate()))
		if !ok {
			return d, fault.New(fault.BadRequest, "codec %.32q/%d is not supported", c.GetName(), c.GetClockRate()).On("description.codecs")
		}
		if c.GetPayloadType() > 127 {
			return d, fault.New(fault.BadRequest, "payload type: want 0 to 127").On("description.codecs")
		}
		d.Codecs = append(d.Codecs, leg.Format{Codec: cd, PayloadType: uint8(c.GetPayloadType())})
	}
	if len(d.Codecs) == 0 {
		return d, fault.New(fault.BadRequest, "want at least one").On("description.codecs")
	}
	return d, nil
}

// remote reads where to send. 0.0.0.0 and :: are the hold of RFC 2543: nowhere.
func remote(p *mediapb.Description, d *leg.Description) error {
	if p.GetRemoteAddress() == "" {
		return nil
	}
	addr, err := netip.ParseAddr(p.GetRemoteAddress())
	if err != nil || addr.Zone() != "" || addr.IsMulticast() {
		return fault.New(fault.BadRequest, "want a unicast IP address").On("description.remote_address")
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || p.GetRemotePort() == 0 {
		return nil
	}
	if p.GetRemotePort() > 65535 || p.GetRemoteRtcpPort() > 65535 {
		return fault.New(fault.BadRequest, "want a port up to 65535").On("description.remote_port")
	}
	d.Remote = netip.AddrPortFrom(addr, uint16(p.GetRemotePort()))
	switch {
	case d.Mux:
		d.RemoteRTCP = d.Remote
	case p.GetRemoteRtcpPort() != 0:
		d.RemoteRTCP = netip.AddrPortFrom(addr, uint16(p.GetRemoteRtcpPort()))
	case p.GetRemotePort() < 65535:
		d.RemoteRTCP = netip.AddrPortFrom(addr, uint16(p.GetRemotePort())+1)
	}
	return nil
}

var bargeIns = map[mediapb.BargeIn]leg.BargeIn{
	mediapb.BargeIn_BARGE_IN_UNSPECIFIED: leg.BargeInNone,
	mediapb.BargeIn_BARGE_IN_NONE:        leg.BargeInNone,
	mediapb.BargeIn_BARGE_IN_CURRENT:     leg.BargeInCurrent,
	mediapb.BargeIn_BARGE_IN_ALL:         leg.BargeInAll,
}

func newStep(r *mediapb.RunStepRequest) (n control.NewStep, err error) {
	p := r.GetStep()
	if err := errors.Join(required("leg_id", r.GetLegId()), required("controller", r.GetController()), required("step.step_id", p.GetStepId())); err != nil {
		return n, first(err)
	}
	bargeIn, ok := bargeIns[p.GetBargeIn()]
	if !ok {
		return n, fault.New(fault.BadRequest, "unknown value").On("step.barge_in")
	}
	if len(p.GetPlaylist()) > maxPlaylist {
		return n, fault.New(fault.BadRequest, "more than %d clips", maxPlaylist).On("step.playlist")
	}
	n = control.NewStep{
		Leg: r.GetLegId(), Grant: r.GetGrant(), Controller: r.GetController(), Playlist: p.GetPlaylist(),
		Step: leg.Step{ID: p.GetStepId(), BargeIn: bargeIn, Last: p.GetLast()},
	}
	if n.Step.After, err = duration("step.after", p.GetAfter(), collector.Never); err != nil {
		return n, err
	}
	if n.Step.Rule, err = rule(p.GetDigits()); err != nil {
		return n, err
	}
	if b := p.GetBackground(); b != nil {
		n.Step.StopBackground = b.GetStop()
		if !b.GetStop() {
			n.Background = b.GetClipId()
		}
		n.Step.RepeatPause, err = duration("step.background.repeat_pause", b.GetRepeatPause(), 0)
	}
	return n, err
}

func rule(p *mediapb.DigitRule) (*collector.Rule, error) {
	if p == nil {
		return nil, nil
	}
	r := &collector.Rule{Flush: p.GetFlush(), MaxDigits: int(min(p.GetMaxDigits(), collector.BufferSize)), Termination: p.GetTerminationKeys()}
	for _, key := range []byte(r.Termination) {
		if !telephonyevent.IsKey(key) {
			return nil, fault.New(fault.BadRequest, "want keys of 0-9 * # A-D").On("step.digits.termination_keys")
		}
	}
	var err error
	if r.First, err = duration("step.digits.first_timeout", p.GetFirstTimeout(), collector.Never); err != nil {
		return nil, err
	}
	r.Between, err = duration("step.digits.between_timeout", p.GetBetweenTimeout(), collector.Never)
	return r, err
}

func statistics(s leg.Statistics) *mediapb.Statistics {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return &mediapb.Statistics{
		PacketsReceived: s.PacketsReceived, PacketsLost: s.PacketsLost, PacketsSent: s.PacketsSent,
		JitterMs: ms(s.Jitter), RoundTripMs: ms(s.RoundTrip), Mos: s.MOS,
		RemotePacketsLost: s.RemoteLost, RemoteJitterMs: ms(s.RemoteJitter),
		OctetsReceived: s.OctetsReceived, OctetsSent: s.OctetsSent, PacketsForeign: s.PacketsForeign, Codec: s.Codec,
	}
}
