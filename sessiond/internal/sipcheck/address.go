package sipcheck

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// addresses checks every header that will be used as an address.
func addresses(m *header.Message, method string) *refusal {
	for _, key := range []string{"from", "to"} {
		a, err := header.ParseAddress(m.Value(key))
		// An unquoted name with a comma would be two addresses.
		if err != nil || !a.Params.Valid() || strings.ContainsAny(a.Display, "\r\n") ||
			!strings.HasPrefix(m.Value(key), `"`) && strings.ContainsAny(a.Display, `,"`) || !validURI(a.URI) {
			return bad("Bad " + key)
		}
		if len(m.Tag(key)) > MaxIdentifier || len(user(a.URI)) > MaxIdentifier {
			return bad("Too Long " + key)
		}
	}
	for _, key := range []string{"contact", "record-route", "route"} {
		for _, v := range m.List(key) {
			if key == "contact" && v == "*" {
				continue
			}
			a, err := header.ParseAddress(v)
			if err != nil || !a.Params.Valid() || !validURI(a.URI) {
				return bad("Bad " + key)
			}
		}
	}
	if method != "INVITE" {
		return nil
	}
	// §8.1.1.8: exactly one Contact; a caller of RFC 2543 may have none.
	switch contacts := m.List("contact"); {
	case len(contacts) > 1, len(contacts) == 1 && contacts[0] == "*":
		return bad("Bad contact")
	case len(contacts) == 0 && modern(m):
		return bad("Missing contact")
	}
	return nil
}

// modern tells whether the sender claims RFC 3261 by its branch.
func modern(m *header.Message) bool {
	via, err := m.Top()
	if err != nil {
		return false
	}
	branch, _ := via.Params.Get("branch")
	return strings.HasPrefix(strings.ToLower(branch), "z9hg4bk")
}

// requestURI checks what the request is for (§8.2.2.1).
func requestURI(uri string) *refusal {
	scheme, _, ok := strings.Cut(uri, ":")
	if !ok || strings.ContainsAny(uri, "<>\"") {
		return bad("Bad Request URI")
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips":
		// §19.1.1: a Request-URI has no headers. A user may have a "?".
		if !validURI(uri) || strings.Contains(uri[strings.LastIndexByte(uri, '@')+1:], "?") {
			return bad("Bad Request URI")
		}
	case "tel":
		if !validURI(uri) {
			return bad("Bad Request URI")
		}
	default:
		return refuse(416, "Unsupported URI Scheme")
	}
	if len(user(uri)) > MaxIdentifier {
		return bad("Too Long Request URI")
	}
	return nil
}

// user is the part of a URI in front of the host; a tel URI is a user alone.
func user(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	if strings.EqualFold(scheme, "tel") {
		number, _, _ := strings.Cut(rest, ";")
		return number
	}
	return rest[:max(0, strings.LastIndexByte(rest, '@'))]
}

// validURI checks characters and escapes, and host and port of a SIP URI.
func validURI(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme == "" || rest == "" || !header.IsToken(scheme) {
		return false
	}
	for i := range len(rest) {
		switch c := rest[i]; {
		case c <= ' ', c == 0x7f, c == '<', c == '>', c == '"':
			return false
		case c == '%':
			if i+2 >= len(rest) || !hex(rest[i+1]) || !hex(rest[i+2]) {
				return false
			}
		}
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips":
		return validHostPort(rest)
	}
	return true
}

func validHostPort(rest string) bool {
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if at == 0 {
			return false
		}
		rest = rest[at+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, ";")
	var host, port string
	if strings.HasPrefix(rest, "[") {
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return false
		}
		if ip, err := netip.ParseAddr(rest[1:end]); err != nil || !ip.Is6() {
			return false
		}
		tail := rest[end+1:]
		if tail == "" {
			return true
		}
		if tail[0] != ':' {
			return false
		}
		port = tail[1:]
	} else {
		var has bool
		if host, port, has = strings.Cut(rest, ":"); host == "" || strings.ContainsAny(host, "/,=") {
			return false
		} else if !has {
			return true
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
