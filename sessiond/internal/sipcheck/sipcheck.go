// Package sipcheck decides about every SIP request before anything else sees
// it: serve it, refuse it with the right code, or drop and count it. The rules
// are those of RFC 3261 §8.2 and §16.3, with RFC 4475 as the list of ways to
// break them.
package sipcheck

import (
	"errors"
	"strconv"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// MaxMessage bounds a message with its body, on streams too.
const MaxMessage = 64 << 10

// MaxIdentifier bounds what is kept of a call for good and looked up by: its
// Call-ID, tags and users. RFC 4475 §3.1.1.7 has legal ones of 300 bytes.
const MaxIdentifier = 512

// Outcome of a check.
type Outcome uint8

// Outcomes.
const (
	Pass Outcome = iota
	Reject
	Drop
)

// Header is a header of a refusal.
type Header struct{ Name, Value string }

// Verdict says what becomes of a request.
type Verdict struct {
	Outcome Outcome
	// Label names the reason of a drop for a counter; there are a few of them.
	Label string
	// Code, Reason and Headers are the refusal's.
	Code    int
	Reason  string
	Headers []Header
	// Method and URI are the request line's, as far as it could be read.
	Method, URI string
	// SDP is the body of type application/sdp, or that part of a multipart body.
	SDP []byte
}

// Checker knows what this user agent can do.
type Checker struct {
	// Allow lists the methods served.
	Allow []string
	// Supported lists option tags.
	Supported []string
}

// known are the methods that are refused with 405 rather than 501.
var known = map[string]bool{
	"INVITE": true, "ACK": true, "CANCEL": true, "BYE": true, "OPTIONS": true, "REGISTER": true, // RFC 3261
	"INFO": true, "PRACK": true, "UPDATE": true, "REFER": true, "SUBSCRIBE": true, "NOTIFY": true,
	"MESSAGE": true, "PUBLISH": true,
}

// single are the headers that may occur once. Those that nobody acts on here
// are left alone.
var single = []string{"call-id", "cseq", "from", "to", "max-forwards", "content-length", "content-type",
	"expires", "min-se", "session-expires", "rseq", "rack", "subject", "content-disposition"}

// refusal carries a verdict out of a check.
type refusal struct {
	code    int
	reason  string
	headers []Header
}

func refuse(code int, reason string, hs ...Header) *refusal {
	return &refusal{code: code, reason: reason, headers: hs}
}

func bad(reason string) *refusal { return refuse(400, reason) }

// Request checks a request as Scan returned it, with Scan's error. On a
// datagram, what follows the declared end of the body is cut off m.Body. size
// is that of the whole message; it never exceeds MaxMessage on a datagram.
func (c *Checker) Request(m *header.Message, scanErr error, stream bool, size int) Verdict {
	if errors.Is(scanErr, header.ErrEmpty) {
		return Verdict{Outcome: Drop, Label: "empty"}
	}
	method, uri, version, lineErr := requestLine(m.StartLine)
	v := Verdict{Method: method, URI: uri}
	if version == "" {
		v.Outcome, v.Label = Drop, "not_sip"
		return v
	}
	if _, err := m.Top(); err != nil {
		v.Outcome, v.Label = Drop, "no_via" // no way to answer
		return v
	}
	r := lineErr
	if r == nil {
		r = c.check(m, scanErr, stream, size, &v, version)
	}
	switch {
	case r == nil:
		return v
	case method == "ACK": // never answered
		v.Outcome, v.Label = Drop, "bad_ack"
	default:
		v.Outcome, v.Code, v.Reason, v.Headers = Reject, r.code, r.reason, r.headers
	}
	return v
}

// check goes from what makes a message to what is asked for (RFC 3261 §8.2).
func (c *Checker) check(m *header.Message, scanErr error, stream bool, size int, v *Verdict, version string) *refusal {
	if !strings.EqualFold(version, "SIP/2.0") {
		return refuse(505, "Version Not Supported")
	}
	if size > MaxMessage {
		return refuse(513, "Message Too Large")
	}
	if scanErr != nil {
		return bad("Malformed Header")
	}
	for _, f := range []func() *refusal{
		func() *refusal { return mandatory(m) },
		func() *refusal { return cseq(m, v.Method) },
		func() *refusal { return addresses(m, v.Method) },
		func() *refusal { return length(m, stream) },
		func() *refusal { return requestURI(v.URI) },
		func() *refusal { return c.method(v.Method) },
		func() *refusal { return hops(m, v.Method) },
		func() *refusal { return c.extensions(m, v.Method) },
		func() *refusal { return content(m, v) },
	} {
		if r := f(); r != nil {
			return r
		}
	}
	return nil
}

// requestLine splits the first line. version is empty if this is no SIP request
// at all; a refusal says that it is one, but not well made.
func requestLine(line string) (method, uri, version string, r *refusal) {
	at := len(line) - len("SIP/")
	for ; at > 0; at-- { // the last one; a lower-case copy could have another length
		if strings.EqualFold(line[at:at+len("SIP/")], "SIP/") {
			break
		}
	}
	if at <= 0 || line[at-1] != ' ' {
		return "", "", "", nil
	}
	version = line[at:]
	method, uri, _ = strings.Cut(line[:at-1], " ")
	if !header.IsToken(method) {
		return "", "", "", nil
	}
	// Exactly one blank between the three, none behind (RFC 3261 §7.1).
	if uri == "" || strings.ContainsAny(uri, " \t") || strings.ContainsAny(version, " \t") {
		return method, strings.TrimSpace(uri), version, bad("Bad Request Line")
	}
	return method, uri, version, nil
}

func mandatory(m *header.Message) *refusal {
	for _, key := range []string{"from", "to", "call-id", "cseq"} {
		if m.Value(key) == "" {
			return bad("Missing " + key)
		}
	}
	for _, key := range single {
		if m.Count(key) > 1 {
			return bad("Repeated " + key)
		}
	}
	if strings.ContainsAny(m.Value("call-id"), " \t,") {
		return bad("Bad call-id")
	}
	if len(m.Value("call-id")) > MaxIdentifier {
		return bad("Too Long call-id")
	}
	for _, line := range m.Lines("via") {
		for hop := range header.Elements(line, ',') {
			via, err := header.ParseVia(strings.TrimSpace(hop))
			if err != nil || !via.Params.Valid() {
				return bad("Bad via")
			}
		}
	}
	return nil
}

func cseq(m *header.Message, method string) *refusal {
	_, named, ok := m.CSeq()
	switch {
	case !ok:
		return bad("Bad cseq")
	case named != method: // methods are case-sensitive
		return bad("CSeq Method Mismatch")
	}
	return nil
}

func (c *Checker) method(method string) *refusal {
	for _, a := range c.Allow {
		if a == method {
			return nil
		}
	}
	allow := Header{"Allow", strings.Join(c.Allow, ", ")}
	if known[method] {
		return refuse(405, "Method Not Allowed", allow)
	}
	return refuse(501, "Not Implemented", allow)
}

// hops checks Max-Forwards. An end point need not care (RFC 4475 §3.3.11), but
// an INVITE may be on its way through us, and may have come from us.
func hops(m *header.Message, method string) *refusal {
	v, ok := m.Get("max-forwards")
	if !ok {
		return nil // RFC 2543 had none
	}
	n, err := strconv.ParseUint(v, 10, 8) // §20.22: 0 to 255
	if err != nil {
		return bad("Bad max-forwards")
	}
	if n == 0 && method == "INVITE" {
		return refuse(483, "Too Many Hops")
	}
	return nil
}

// extensions checks Require, which ACK and CANCEL do not have (§8.2.2.3), and
// the numbers in headers that would be acted on.
func (c *Checker) extensions(m *header.Message, method string) *refusal {
	if v, ok := m.Get("expires"); ok {
		if _, err := strconv.ParseUint(v, 10, 32); err != nil {
			return bad("Bad expires")
		}
	}
	if method == "ACK" || method == "CANCEL" {
		return nil
	}
	var missing []string
next:
	for _, tag := range m.List("require") {
		for _, s := range c.Supported {
			if strings.EqualFold(s, tag) {
				continue next
			}
		}
		missing = append(missing, tag)
	}
	if missing != nil {
		return refuse(420, "Bad Extension", Header{"Unsupported", strings.Join(missing, ", ")})
	}
	return nil
}

// length checks Content-Length (RFC 3261 §18.3).
func length(m *header.Message, stream bool) *refusal {
	v, ok := m.Get("content-length")
	if !ok {
		if stream {
			return bad("Missing content-length")
		}
		return nil
	}
	n, err := strconv.ParseUint(v, 10, 32)
	switch {
	case err != nil:
		return bad("Bad content-length")
	case n > MaxMessage:
		return refuse(513, "Message Too Large")
	case n > uint64(len(m.Body)):
		return bad("Body Shorter Than content-length")
	}
	m.Body = m.Body[:n]
	return nil
}
