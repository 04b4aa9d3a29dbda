package sipcheck

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

var acceptSDP = Header{"Accept", "application/sdp"}

// maxParts bounds the parts of a multipart body that are looked at.
const maxParts = 16

// content checks that the body of an INVITE or ACK can be understood
// (§8.2.3) and finds its SDP. Bodies of other methods are their handler's: a
// BYE is never refused for what it carries.
func content(m *header.Message, v *Verdict) *refusal {
	switch v.Method {
	case "INVITE":
		if !accepts(m) {
			return refuse(406, "Not Acceptable", acceptSDP)
		}
	case "ACK":
		// Whatever it carries, it ends the wait for it.
		_ = understand(m, v)
		return nil
	default:
		return nil
	}
	return understand(m, v)
}

func understand(m *header.Message, v *Verdict) *refusal {
	if len(bytes.TrimSpace(m.Body)) == 0 {
		return nil
	}
	optional := handling(m.Value("content-disposition")) == "optional"
	for _, enc := range m.List("content-encoding") {
		if !strings.EqualFold(enc, "identity") {
			if optional {
				return nil
			}
			return refuse(415, "Unsupported Media Type", Header{"Accept-Encoding", "identity"}, acceptSDP)
		}
	}
	if m.Count("content-type") == 0 && bytes.HasPrefix(m.Body, []byte("v=0")) {
		v.SDP = m.Body // said by nobody, and plain to see
		return nil
	}
	kind, params, err := mime.ParseMediaType(m.Value("content-type"))
	if err != nil && kind == "" {
		return bad("Bad content-type")
	}
	switch {
	case kind == "application/sdp":
		v.SDP = m.Body
		return nil
	case strings.HasPrefix(kind, "multipart/"):
		sdp, ok := sdpPart(m.Body, params["boundary"])
		if ok || optional {
			v.SDP = sdp
			return nil
		}
	case optional:
		return nil
	}
	return refuse(415, "Unsupported Media Type", acceptSDP)
}

// accepts tells whether the sender takes an SDP answer. No Accept means so.
func accepts(m *header.Message) bool {
	if m.Count("accept") == 0 {
		return true
	}
	for _, a := range m.List("accept") {
		kind, _, _ := strings.Cut(a, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/sdp", "application/*", "*/*":
			return true
		}
	}
	// Present but empty says that no body is wanted, which no caller can mean.
	return m.Value("accept") == ""
}

func handling(disposition string) string {
	_, params, _ := strings.Cut(disposition, ";")
	h, _ := header.Params(params).Get("handling")
	return strings.ToLower(h)
}

// sdpPart takes the SDP out of a multipart body (RFC 5621). false says that
// there is a part which must be understood and is not.
func sdpPart(body []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	var sdp []byte
	for range maxParts {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return sdp, true
		}
		if err != nil {
			return sdp, sdp != nil
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if kind == "application/sdp" && sdp == nil {
			if sdp, err = io.ReadAll(io.LimitReader(p, MaxMessage)); err != nil {
				return nil, false
			}
			continue
		}
		// A part of its own type, such as ISUP of a gateway, is no reason to
		// refuse the call as long as there is SDP beside it, whatever its
		// handling says: RFC 3204 marks it optional, few gateways do.
	}
	return sdp, sdp != nil
}
