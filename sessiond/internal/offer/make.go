package offer

import (
	"github.com/callmesh/callmesh/sessiond/internal/sdp"
)

// Make writes an offer of ours: the first one (late offer, outgoing call), or,
// with l.Previous, a new one in the dialog, which keeps the sections of the
// previous description in their places (RFC 3264 §8).
func Make(caps Capabilities, l Local) []byte {
	m := audio(caps.Codecs, caps.EventPT, caps, l.Address.Port(), l.Direction)
	if caps.RTCPMux {
		m.Lines = append(m.Lines, sdp.Line{Type: 'a', Value: "rtcp-mux"})
	}
	d := &sdp.Description{}
	placed := false
	if prev, err := sdp.Parse(l.Previous); err == nil {
		at := stream(prev)
		for i := range prev.Media {
			if i == at {
				d.Media, placed = append(d.Media, m), true
				continue
			}
			d.Media = append(d.Media, refused(&prev.Media[i]))
		}
	}
	if !placed {
		d.Media = append(d.Media, m)
	}
	return finish(d, l)
}

// stream finds our audio section in a description of ours, or -1.
func stream(d *sdp.Description) int {
	for i := range d.Media {
		if d.Media[i].Kind == "audio" && d.Media[i].Port != 0 {
			return i
		}
	}
	return -1
}

// Accept reads the answer to an offer of ours.
func Accept(ours, answer []byte, caps Capabilities) (*Agreement, error) {
	mine, err := sdp.Parse(ours)
	if err != nil {
		return nil, err
	}
	theirs, err := sdp.Parse(answer)
	if err != nil {
		return nil, &Rejection{Code: 488, Reason: "Bad SDP", Warning: `399 callmesh "the answer is no session description"`}
	}
	i := stream(mine)
	if i < 0 || i >= len(theirs.Media) || theirs.Media[i].Kind != "audio" || theirs.Media[i].Port == 0 {
		return nil, unacceptable(304, "Media type not available")
	}
	a, rej := agree(theirs, i, caps)
	if rej != nil {
		return nil, rej
	}
	a.offer = theirs
	a.Direction = a.Direction.And(mine.Direction(&mine.Media[i]))
	return a, nil
}
