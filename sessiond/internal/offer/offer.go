// Package offer is the offer/answer model (RFC 3264) for one audio stream, as
// pure functions over session descriptions: what an offer lets us agree to, our
// answer to it, our own offer and what the far end made of it.
//
// Receiving comes in two steps, since our address is only known once a leg has
// been made for the agreement: Receive, then Agreement.Answer.
package offer

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/sdp"
)

// Codec is an audio format.
type Codec struct {
	Name string // as in RFC 3551: PCMU, PCMA
	PT   uint8
	Rate int
}

// Capabilities are what our media can do.
type Capabilities struct {
	// Codecs in order of preference, with the payload types of our own offers.
	Codecs []Codec
	// EventPT is the payload type of telephone-event in our offers: 101.
	EventPT uint8
	// RTCPMux says that RTCP may share the port (RFC 5761).
	RTCPMux bool
	// Ptime in ms: 20.
	Ptime int
}

// G711 is what every leg can do.
func G711() Capabilities {
	return Capabilities{Codecs: []Codec{{"PCMU", 0, 8000}, {"PCMA", 8, 8000}}, EventPT: 101, RTCPMux: true, Ptime: 20}
}

// Rejection says why an offer cannot be answered, as SIP says it.
type Rejection struct {
	Code   int
	Reason string
	// Warning is the value of a Warning header (RFC 3261 §20.43).
	Warning string
}

func (r *Rejection) Error() string {
	return fmt.Sprintf("offer: %d %s (%s)", r.Code, r.Reason, r.Warning)
}

// Warn codes of RFC 3261 §20.43.
func unacceptable(warn int, text string) *Rejection {
	return &Rejection{Code: 488, Reason: "Not Acceptable Here", Warning: fmt.Sprintf("%d callmesh %q", warn, text)}
}

// Agreement is what the two sides can do together, from our point of view.
type Agreement struct {
	// Remote is where to send RTP; invalid while the far end holds us with an
	// address of zeros.
	Remote netip.AddrPort
	// RTCPPort is the far end's port for RTCP (RFC 3605, or one above RTP's).
	RTCPPort uint16
	RTCPMux  bool
	// Codecs both sides know, the one to send first, with the far end's payload
	// types.
	Codecs []Codec
	// EventPT is the payload type of telephone-event, 0 if there is none.
	EventPT uint8
	// Direction is what we do.
	Direction sdp.Direction
	// Held says that the far end has put us on hold.
	Held bool
	// IPv6 says which family the far end speaks.
	IPv6 bool

	caps  Capabilities
	offer *sdp.Description
	index int // of the agreed stream
}

// Receive reads an offer. The error is a *Rejection, also for what is no SDP.
func Receive(offer []byte, caps Capabilities) (*Agreement, error) {
	d, err := sdp.Parse(offer)
	if err != nil {
		return nil, &Rejection{Code: 400, Reason: "Bad SDP", Warning: `399 callmesh "` + strings.ReplaceAll(err.Error(), `"`, "'") + `"`}
	}
	var why *Rejection
	for i := range d.Media {
		m := &d.Media[i]
		if m.Kind != "audio" || m.Port == 0 {
			continue
		}
		a, rej := agree(d, i, caps)
		if rej == nil {
			a.offer = d
			return a, nil
		}
		if why == nil { // the first stream is the one the caller cares for
			why = rej
		}
	}
	if why == nil {
		why = unacceptable(304, "Media type not available")
	}
	return nil, why
}

// agree works out what section i of the far end's description allows.
func agree(d *sdp.Description, i int, caps Capabilities) (*Agreement, *Rejection) {
	m := &d.Media[i]
	switch strings.ToUpper(m.Proto) {
	case "RTP/AVP", "RTP/AVPF":
	default:
		return nil, unacceptable(302, "Incompatible transport protocol")
	}
	a := &Agreement{caps: caps, index: i}
	for _, f := range m.RTPFormats() {
		switch {
		case strings.EqualFold(f.Name, "telephone-event"):
			if f.Rate == 8000 && a.EventPT == 0 {
				a.EventPT = f.PT
			}
		default:
			for _, c := range caps.Codecs {
				if strings.EqualFold(c.Name, f.Name) && c.Rate == f.Rate && f.Channels <= 1 && !a.has(c.Name) {
					a.Codecs = append(a.Codecs, Codec{c.Name, f.PT, c.Rate})
				}
			}
		}
	}
	if len(a.Codecs) == 0 {
		return nil, unacceptable(305, "Incompatible media format")
	}
	addr, _, ok := d.Connection(m)
	switch {
	case !ok:
		return nil, unacceptable(300, "Incompatible network protocol")
	case !addr.IsValid():
		// A host name would have us ask a name server for strangers.
		return nil, unacceptable(301, "Incompatible network address formats")
	case addr.IsMulticast():
		return nil, unacceptable(330, "Multicast not available")
	}
	a.IPv6 = addr.Is6()
	theirs := d.Direction(m)
	if addr.IsUnspecified() {
		// RFC 2543's way to hold (RFC 3264 §8.4): nothing may be sent.
		theirs = theirs.And(sdp.SendOnly)
	} else {
		a.Remote = netip.AddrPortFrom(addr, m.Port)
	}
	a.Direction = theirs.Reverse()
	a.Held = theirs == sdp.SendOnly || theirs == sdp.Inactive
	a.RTCPPort = rtcpPort(m)
	_, mux := m.Attr("rtcp-mux")
	a.RTCPMux = mux && caps.RTCPMux
	if a.RTCPMux {
		a.RTCPPort = m.Port
	}
	return a, nil
}

func (a *Agreement) has(name string) bool {
	for _, c := range a.Codecs {
		if c.Name == name {
			return true
		}
	}
	return false
}

func rtcpPort(m *sdp.Media) uint16 {
	if v, ok := m.Attr("rtcp"); ok { // RFC 3605: port, perhaps an address
		num, _, _ := strings.Cut(v, " ")
		if p, err := strconv.ParseUint(num, 10, 16); err == nil && p > 0 {
			return uint16(p)
		}
	}
	if m.Port == 1<<16-1 {
		return m.Port
	}
	return m.Port + 1
}

// Local is our side of a description.
type Local struct {
	// Address for RTP.
	Address netip.AddrPort
	// Direction is what we want to do; the zero value is sendrecv.
	Direction sdp.Direction
	// Previous is our last description in this dialog, nil for the first: its
	// session id goes on, and its version is counted up if anything changed
	// (RFC 3264 §8).
	Previous []byte
	// SessionID is the number in o= of a first description; digits.
	SessionID uint64
}

// Answer writes our answer. The sections are those of the offer, in its order;
// all but the agreed one are refused with port 0 (RFC 3264 §6).
func (a *Agreement) Answer(l Local) []byte {
	a.Direction = a.Direction.And(l.Direction)
	d := &sdp.Description{}
	for i := range a.offer.Media {
		theirs := &a.offer.Media[i]
		if i != a.index {
			d.Media = append(d.Media, refused(theirs))
			continue
		}
		m := audio(a.Codecs, a.EventPT, a.caps, l.Address.Port(), a.Direction)
		m.Proto = theirs.Proto
		if a.RTCPMux {
			m.Lines = append(m.Lines, sdp.Line{Type: 'a', Value: "rtcp-mux"})
		}
		d.Media = append(d.Media, m)
	}
	return finish(d, l)
}

// refused is a section of the far end with port 0. It must have a format; what
// it was offered with serves.
func refused(m *sdp.Media) sdp.Media {
	formats := m.Formats
	if len(formats) == 0 {
		formats = []string{"0"}
	}
	return sdp.Media{Kind: m.Kind, Proto: m.Proto, Formats: formats}
}

func audio(codecs []Codec, event uint8, caps Capabilities, port uint16, dir sdp.Direction) sdp.Media {
	m := sdp.Media{Kind: "audio", Port: port, Proto: "RTP/AVP"}
	add := func(v string) { m.Lines = append(m.Lines, sdp.Line{Type: 'a', Value: v}) }
	for _, c := range codecs {
		m.Formats = append(m.Formats, strconv.Itoa(int(c.PT)))
		add(fmt.Sprintf("rtpmap:%d %s/%d", c.PT, c.Name, c.Rate))
	}
	if event != 0 {
		m.Formats = append(m.Formats, strconv.Itoa(int(event)))
		add(fmt.Sprintf("rtpmap:%d telephone-event/8000", event))
		add(fmt.Sprintf("fmtp:%d 0-15", event))
	}
	add("ptime:" + strconv.Itoa(cmp.Or(caps.Ptime, 20)))
	add(dir.String())
	return m
}

// finish puts the session section before the media, continuing the previous
// description's numbers.
func finish(d *sdp.Description, l Local) []byte {
	family := "IP4"
	if l.Address.Addr().Is6() {
		family = "IP6"
	}
	id, version := l.SessionID, uint64(1)
	if prev, err := sdp.Parse(l.Previous); err == nil {
		if o, ok := prev.Origin(); ok {
			oldID, err1 := strconv.ParseUint(o.ID, 10, 64)
			oldVersion, err2 := strconv.ParseUint(o.Version, 10, 64)
			if err1 == nil && err2 == nil {
				id, version = oldID, oldVersion
			}
		}
	}
	write := func() []byte {
		addr := l.Address.Addr().String()
		d.Lines = []sdp.Line{
			{Type: 'v', Value: "0"},
			{Type: 'o', Value: fmt.Sprintf("- %d %d IN %s %s", id, version, family, addr)},
			{Type: 's', Value: "-"},
			{Type: 'c', Value: "IN " + family + " " + addr},
			{Type: 't', Value: "0 0"},
		}
		return d.Bytes()
	}
	text := write()
	if len(l.Previous) > 0 && string(text) != string(l.Previous) {
		version++
		text = write()
	}
	return text
}
