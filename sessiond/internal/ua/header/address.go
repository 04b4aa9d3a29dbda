package header

import (
	"errors"
	"strings"
)

// Params are the parameters behind a value: ";name=value;flag".
type Params string

// Get returns a parameter, without quotes. Names are matched in any case and
// blanks around them are ignored (RFC 3261 §7.3.1).
func (p Params) Get(name string) (value string, ok bool) {
	for part := range Elements(string(p), ';') {
		k, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return Unquote(strings.TrimSpace(v)), true
		}
	}
	return "", false
}

// Valid tells whether every parameter has a name. One separator too many at the
// end is forgiven.
func (p Params) Valid() bool {
	if strings.TrimSpace(string(p)) == "" {
		return true
	}
	empty := false
	for part := range Elements(string(p), ';') {
		if empty {
			return false
		}
		if strings.TrimSpace(part) == "" {
			empty = true
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		if !IsToken(strings.TrimSpace(name)) || strings.HasPrefix(strings.TrimSpace(value), `"`) && closingQuote(strings.TrimSpace(value)) < 0 {
			return false
		}
	}
	return true
}

// Address is a name-addr or addr-spec with its parameters (RFC 3261 §20.10).
type Address struct {
	Display string
	URI     string
	Params  Params
}

// Param is a parameter's value, or "".
func (a Address) Param(name string) string {
	v, _ := a.Params.Get(name)
	return v
}

// ErrAddress says that a value is no address.
var ErrAddress = errors.New("header: malformed address")

// ParseAddress reads a From, To, Contact, Route, P-Asserted-Identity, …
func ParseAddress(v string) (Address, error) {
	v = strings.TrimSpace(v)
	var a Address
	if strings.HasPrefix(v, `"`) {
		end := closingQuote(v)
		if end < 0 {
			return a, ErrAddress
		}
		a.Display = Unquote(v[:end+1])
		v = strings.TrimSpace(v[end+1:])
		if !strings.HasPrefix(v, "<") {
			return a, ErrAddress
		}
	}
	open := strings.IndexByte(v, '<')
	if semi := strings.IndexByte(v, ';'); open < 0 || semi >= 0 && semi < open {
		// addr-spec: parameters behind it belong to the header, not the URI.
		uri, params, _ := strings.Cut(v, ";")
		a.URI, a.Params = strings.TrimSpace(uri), Params(params)
		if a.URI == "" || strings.ContainsAny(a.URI, " \t<>\"") {
			return a, ErrAddress
		}
		return a, nil
	}
	end := strings.IndexByte(v[open:], '>')
	if end < 0 {
		return a, ErrAddress
	}
	if open > 0 {
		a.Display = strings.TrimSpace(v[:open])
	}
	a.URI = v[open+1 : open+end]
	tail := strings.TrimSpace(v[open+end+1:])
	if a.URI == "" || strings.ContainsAny(a.URI, " \t\"") || tail != "" && tail[0] != ';' {
		return a, ErrAddress
	}
	a.Params = Params(strings.TrimPrefix(tail, ";"))
	return a, nil
}

// Via is one hop of a Via field.
type Via struct {
	Transport string // upper case
	// SentBy is host or host:port; IPv6 keeps its brackets.
	SentBy string
	Params Params
}

// ErrVia says that a value is no Via hop.
var ErrVia = errors.New("header: malformed Via")

// ParseVia reads one element of a Via field.
func ParseVia(v string) (Via, error) {
	var via Via
	head, params, _ := strings.Cut(v, ";")
	// "SIP / 2.0 / UDP host : port": blanks around every separator.
	proto := strings.SplitN(head, "/", 3)
	if len(proto) != 3 || !strings.EqualFold(strings.TrimSpace(proto[0]), "SIP") || strings.TrimSpace(proto[1]) != "2.0" {
		return via, ErrVia
	}
	parts := strings.Fields(proto[2])
	if len(parts) < 2 || !IsToken(parts[0]) {
		return via, ErrVia
	}
	via.Transport = strings.ToUpper(parts[0])
	via.SentBy = strings.Join(parts[1:], "")
	if via.SentBy == "" || strings.ContainsAny(via.SentBy, "<>\"@,") {
		return via, ErrVia
	}
	via.Params = Params(params)
	return via, nil
}

// Top returns the first Via hop.
func (m *Message) Top() (Via, error) {
	v, ok := m.Get("via")
	if !ok {
		return Via{}, ErrVia
	}
	for first := range Elements(v, ',') {
		return ParseVia(first)
	}
	return Via{}, ErrVia
}
