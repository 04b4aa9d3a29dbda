// Package sdp reads and writes session descriptions (RFC 4566, RFC 8866) as
// telephony sends them: with fax and other strange media, lines missing or out
// of order, and ends of line of any kind. It keeps lines it does not know, in
// their place, and has an opinion about nothing but what it must understand.
package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a description. A SIP datagram holds less.
const (
	MaxSize    = 32 << 10
	maxLines   = 1024
	maxMedia   = 32
	maxFormats = 128
)

// Line is "k=value".
type Line struct {
	Type  byte
	Value string
}

// Description is a whole session description.
type Description struct {
	// Lines of the session section.
	Lines []Line
	Media []Media
}

// Media is one m= section.
type Media struct {
	// Kind is audio, video, image, ….
	Kind string
	// Port is 0 for a stream that is refused or over.
	Port uint16
	// Ports is the number of ports, 0 if not given.
	Ports   int
	Proto   string
	Formats []string
	// Lines of the section without the m= line.
	Lines []Line
}

// Errors of Parse.
var (
	ErrTooBig = errors.New("sdp: too big")
	ErrEmpty  = errors.New("sdp: no description")
)

// Parse reads a description. Lines without the form "k=…" are skipped, save
// that the first one must be a version: anything else is no SDP.
func Parse(b []byte) (*Description, error) {
	if len(b) > MaxSize {
		return nil, ErrTooBig
	}
	d := &Description{}
	at := &d.Lines
	n := 0
	for text := range strings.Lines(string(b)) {
		text = strings.TrimRight(text, "\r\n \t\x00")
		text = strings.TrimLeft(text, " \t")
		if text == "" {
			continue
		}
		if n++; n > maxLines {
			return nil, ErrTooBig
		}
		if n == 1 && !strings.HasPrefix(text, "v=") {
			return nil, ErrEmpty
		}
		if len(text) < 2 || text[1] != '=' {
			continue
		}
		if text[0] != 'm' {
			*at = append(*at, Line{text[0], text[2:]})
			continue
		}
		if len(d.Media) == maxMedia {
			return nil, ErrTooBig
		}
		m, err := parseMedia(text[2:])
		if err != nil {
			return nil, err
		}
		d.Media = append(d.Media, m)
		at = &d.Media[len(d.Media)-1].Lines
	}
	// Without media, an origin is the least that tells a description from any
	// text behind "v=".
	if n == 0 || (len(d.Media) == 0 && !d.has('o')) {
		return nil, ErrEmpty
	}
	return d, nil
}

func (d *Description) has(kind byte) bool {
	return slices.ContainsFunc(d.Lines, func(l Line) bool { return l.Type == kind })
}

func parseMedia(v string) (Media, error) {
	f := strings.Fields(v)
	if len(f) < 3 || len(f) > 3+maxFormats {
		return Media{}, fmt.Errorf("sdp: malformed m= line")
	}
	m := Media{Kind: strings.ToLower(f[0]), Proto: f[2], Formats: f[3:]}
	port, ports, more := strings.Cut(f[1], "/")
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Media{}, fmt.Errorf("sdp: port of m= line: %w", err)
	}
	m.Port = uint16(p)
	if more {
		if m.Ports, err = strconv.Atoi(ports); err != nil || m.Ports < 1 || m.Ports > 1<<15 {
			return Media{}, fmt.Errorf("sdp: number of ports of m= line")
		}
	}
	return m, nil
}

// Bytes writes the description.
func (d *Description) Bytes() []byte {
	var b strings.Builder
	for _, l := range d.Lines {
		l.write(&b)
	}
	for i := range d.Media {
		m := &d.Media[i]
		b.WriteString("m=" + m.Kind + " " + strconv.Itoa(int(m.Port)))
		if m.Ports > 0 {
			b.WriteString("/" + strconv.Itoa(m.Ports))
		}
		b.WriteString(" " + m.Proto)
		for _, f := range m.Formats {
			b.WriteString(" " + f)
		}
		b.WriteString("\r\n")
		for _, l := range m.Lines {
			l.write(&b)
		}
	}
	return []byte(b.String())
}

func (l Line) write(b *strings.Builder) {
	b.WriteByte(l.Type)
	b.WriteByte('=')
	b.WriteString(l.Value)
	b.WriteString("\r\n")
}

// Value returns the first line of that type in the section.
func value(lines []Line, kind byte) (string, bool) {
	for _, l := range lines {
		if l.Type == kind {
			return l.Value, true
		}
	}
	return "", false
}

// Value returns the first session line of that type.
func (d *Description) Value(kind byte) (string, bool) { return value(d.Lines, kind) }

// Value returns the first line of that type in the media section.
func (m *Media) Value(kind byte) (string, bool) { return value(m.Lines, kind) }

func attr(lines []Line, name string) (string, bool) {
	for _, l := range lines {
		if l.Type != 'a' {
			continue
		}
		n, v, _ := strings.Cut(l.Value, ":")
		if strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// Attr returns the first session attribute of that name.
func (d *Description) Attr(name string) (string, bool) { return attr(d.Lines, name) }

// Attr returns the first attribute of that name in the media section.
func (m *Media) Attr(name string) (string, bool) { return attr(m.Lines, name) }

// Attrs returns every attribute of that name in the media section.
func (m *Media) Attrs(name string) []string {
	var all []string
	for _, l := range m.Lines {
		if n, v, _ := strings.Cut(l.Value, ":"); l.Type == 'a' && strings.EqualFold(strings.TrimSpace(n), name) {
			all = append(all, strings.TrimSpace(v))
		}
	}
	return all
}

// Origin is the o= line.
type Origin struct {
	User    string
	ID      string
	Version string
	Address string
	IPv6    bool
}

// Origin reads the o= line. A user with blanks, which some gateways send, is
// taken whole. Numbers stay text: some are longer than 64 bits.
func (d *Description) Origin() (Origin, bool) {
	v, _ := d.Value('o')
	f := strings.Fields(v)
	if len(f) < 6 {
		return Origin{}, false
	}
	n := len(f)
	return Origin{User: strings.Join(f[:n-5], " "), ID: f[n-5], Version: f[n-4], IPv6: strings.EqualFold(f[n-2], "IP6"), Address: f[n-1]}, true
}

// Connection returns the address of a media section: its own c= line, or else
// the session's. host is the text when it is no address.
func (d *Description) Connection(m *Media) (addr netip.Addr, host string, ok bool) {
	v, found := m.Value('c')
	if !found {
		v, found = d.Value('c')
	}
	f := strings.Fields(v)
	if !found || len(f) < 3 || !strings.EqualFold(f[0], "IN") {
		return netip.Addr{}, "", false
	}
	host, _, _ = strings.Cut(f[2], "/") // multicast TTL
	if a, err := netip.ParseAddr(host); err == nil {
		return a.WithZone("").Unmap(), host, true
	}
	return netip.Addr{}, host, true
}

// Direction of a media stream, from the describing side (RFC 3264 §5.1).
type Direction uint8

// Directions.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

var directionNames = [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}

func (d Direction) String() string { return directionNames[d] }

// Reverse is the same direction from the other side.
func (d Direction) Reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	}
	return d
}

// And is what two sides can do together; both seen from the same one.
func (d Direction) And(e Direction) Direction {
	send := d.sends() && e.sends()
	recv := d.receives() && e.receives()
	switch {
	case send && recv:
		return SendRecv
	case send:
		return SendOnly
	case recv:
		return RecvOnly
	}
	return Inactive
}

func (d Direction) sends() bool    { return d == SendRecv || d == SendOnly }
func (d Direction) receives() bool { return d == SendRecv || d == RecvOnly }

// Direction returns a section's direction: its own, the session's, or sendrecv.
func (d *Description) Direction(m *Media) Direction {
	for _, lines := range [][]Line{m.Lines, d.Lines} {
		for i, name := range directionNames {
			if _, ok := attr(lines, name); ok {
				return Direction(i)
			}
		}
	}
	return SendRecv
}

// Format is what a description says about one payload type of a section.
type Format struct {
	PT       uint8
	Name     string
	Rate     int
	Channels int
	Fmtp     string
}

// static are the payload types that need no rtpmap (RFC 3551 §6), as far as
// telephony uses them.
var static = map[uint8]Format{
	0: {Name: "PCMU", Rate: 8000}, 3: {Name: "GSM", Rate: 8000}, 4: {Name: "G723", Rate: 8000},
	8: {Name: "PCMA", Rate: 8000}, 9: {Name: "G722", Rate: 8000}, 13: {Name: "CN", Rate: 8000},
	15: {Name: "G728", Rate: 8000}, 18: {Name: "G729", Rate: 8000},
}

// RTPFormats returns the section's formats in the order of its m= line; those
// that are no payload type, or that nothing explains, are left out.
func (m *Media) RTPFormats() []Format {
	var all []Format
	for _, f := range m.Formats {
		n, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			continue
		}
		pt := uint8(n)
		format, known := static[pt]
		for _, a := range m.Attrs("rtpmap") {
			num, enc, ok := strings.Cut(a, " ")
			if !ok || num != f {
				continue
			}
			parts := strings.Split(strings.TrimSpace(enc), "/")
			if len(parts) < 2 {
				continue
			}
			rate, err := strconv.Atoi(parts[1])
			if err != nil {
				continue
			}
			format, known = Format{Name: parts[0], Rate: rate}, true
			if len(parts) > 2 {
				format.Channels, _ = strconv.Atoi(parts[2])
			}
			break
		}
		if !known {
			continue
		}
		format.PT = pt
		for _, a := range m.Attrs("fmtp") {
			if num, params, ok := strings.Cut(a, " "); ok && num == f {
				format.Fmtp = strings.TrimSpace(params)
				break
			}
		}
		all = append(all, format)
	}
	return all
}
