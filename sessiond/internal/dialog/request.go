package dialog

import (
	"net/url"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// Request is what a dialog says about our next request (RFC 3261 §12.2.1.1);
// Via, Contact and body are the sender's.
type Request struct {
	Method string
	URI    string
	Route  []string
	From   string
	To     string
	CallID string
	CSeq   uint32
	// NextHop is the URI the message is sent to.
	NextHop string
}

// Next makes our next request in the dialog and counts up, save for ACK, which
// repeats the number of the INVITE it belongs to.
func (d *Dialog) Next(method string) Request {
	r := Request{Method: method, CallID: d.CallID,
		From: nameAddr(d.LocalURI, d.LocalTag), To: nameAddr(d.RemoteURI, d.RemoteTag)}
	if method == "ACK" {
		r.CSeq = d.LocalCSeq
	} else {
		d.LocalCSeq++
		r.CSeq = d.LocalCSeq
	}
	switch {
	case len(d.RouteSet) == 0:
		r.URI, r.NextHop = d.RemoteTarget, d.RemoteTarget
	case IsLoose(d.RouteSet[0]):
		r.URI, r.NextHop = d.RemoteTarget, d.RouteSet[0]
		r.Route = append(r.Route, d.RouteSet...)
	default:
		// A strict router takes the first route as Request-URI and expects the
		// target at the end of the list.
		r.URI, r.NextHop = stripForRequestLine(d.RouteSet[0]), d.RouteSet[0]
		r.Route = append(append(r.Route, d.RouteSet[1:]...), d.RemoteTarget)
	}
	r.URI = stripForRequestLine(r.URI)
	return r
}

func nameAddr(uri, tag string) string {
	v := "<" + header.Clean(uri) + ">"
	if tag != "" { // an RFC 2543 peer may have none
		v += ";tag=" + header.Clean(tag)
	}
	return v
}

// IsLoose tells whether a route URI has the lr parameter.
func IsLoose(uri string) bool {
	uri, _, _ = strings.Cut(uri, "?")
	_, params, _ := strings.Cut(uri, ";")
	_, ok := header.Params(params).Get("lr")
	return ok
}

// stripForRequestLine removes what a Request-URI may not have: the method
// parameter and headers (RFC 3261 §19.1.1, table 1).
func stripForRequestLine(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	head, params, found := strings.Cut(uri, ";")
	if !found {
		return uri
	}
	kept := head
	for p := range strings.SplitSeq(params, ";") {
		if name, _, _ := strings.Cut(p, "="); !strings.EqualFold(strings.TrimSpace(name), "method") {
			kept += ";" + p
		}
	}
	return kept
}

// SIPUser returns the user part of a sip, sips or tel URI, unescaped and
// without its parameters.
func SIPUser(uri string) string {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return ""
	}
	var user string
	switch strings.ToLower(scheme) {
	case "tel":
		user = rest
	case "sip", "sips":
		at := strings.LastIndexByte(rest, '@')
		if at < 0 {
			return ""
		}
		user, _, _ = strings.Cut(rest[:at], ":") // a password
	default:
		return ""
	}
	user, _, _ = strings.Cut(user, ";")
	// A user that unescapes to a line end stays escaped: it goes into headers.
	if plain, err := url.PathUnescape(user); err == nil && header.Clean(plain) == plain {
		return plain
	}
	return user
}

// SIPHost returns the host of a sip or sips URI, without its port.
func SIPHost(uri string) string {
	scheme, rest, ok := strings.Cut(uri, ":")
	if s := strings.ToLower(scheme); !ok || s != "sip" && s != "sips" {
		return ""
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	if i := strings.IndexAny(rest, ";?"); i >= 0 {
		rest = rest[:i]
	}
	if strings.HasPrefix(rest, "[") {
		if end := strings.IndexByte(rest, ']'); end > 0 {
			return rest[1:end]
		}
		return ""
	}
	host, _, _ := strings.Cut(rest, ":")
	return strings.ToLower(host)
}
