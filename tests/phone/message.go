// Package phone is a SIP phone for tests: it places and takes calls over UDP or
// TCP, speaks and listens to RTP, and can misbehave on purpose. It shares no
// code with the product and uses no SIP library, so that it checks callmesh
// independently; what it sees that breaks an RFC it keeps as a violation.
package phone

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Header is one header line; Name is in its long form.
type Header struct{ Name, Value string }

// Message is a SIP request (Method set) or response (Status set).
type Message struct {
	Method  string
	URI     string
	Status  int
	Reason  string
	Headers []Header
	Body    []byte
}

// compact are the one-letter forms of RFC 3261 §7.3.3 and its extensions.
var compact = map[string]string{
	"i": "Call-ID", "m": "Contact", "e": "Content-Encoding", "l": "Content-Length",
	"c": "Content-Type", "f": "From", "s": "Subject", "k": "Supported", "t": "To",
	"v": "Via", "x": "Session-Expires", "r": "Refer-To", "b": "Referred-By", "o": "Event", "u": "Allow-Events",
}

// maxMessage bounds what the phone takes from a stream: far above any message
// callmesh may send, far below what a runaway would.
const maxMessage = 1 << 20

// ParseMessage reads one whole message. It is strict: callmesh must not send
// what a careful peer would refuse.
func ParseMessage(data []byte) (*Message, error) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		return nil, errors.New("no empty line after the headers")
	}
	lines := strings.Split(string(head), "\r\n")
	m := &Message{Body: body}
	if err := m.startLine(lines[0]); err != nil {
		return nil, err
	}
	for _, line := range lines[1:] {
		if err := m.header(line); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		if m.Get(name) == "" {
			return nil, fmt.Errorf("no %s header", name)
		}
	}
	return m, m.checkLength()
}

func (m *Message) startLine(line string) error {
	if rest, ok := strings.CutPrefix(line, "SIP/2.0 "); ok {
		code, reason, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil || status < 100 || status > 699 {
			return fmt.Errorf("status line %q", line)
		}
		m.Status, m.Reason = status, reason
		return nil
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[2] != "SIP/2.0" {
		return fmt.Errorf("start line %q", line)
	}
	m.Method, m.URI = parts[0], parts[1]
	return nil
}

func (m *Message) header(line string) error {
	if line != "" && (line[0] == ' ' || line[0] == '\t') { // folded, RFC 3261 §7.3.1
		if len(m.Headers) == 0 {
			return errors.New("folded line before any header")
		}
		last := &m.Headers[len(m.Headers)-1]
		last.Value += " " + strings.TrimSpace(line)
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || strings.ContainsAny(strings.TrimRight(name, " \t"), " \t") {
		return fmt.Errorf("header line %q", line)
	}
	name = strings.TrimRight(name, " \t")
	if long, ok := compact[strings.ToLower(name)]; ok {
		name = long
	}
	m.Headers = append(m.Headers, Header{name, strings.TrimSpace(value)})
	return nil
}

func (m *Message) checkLength() error {
	text := m.Get("Content-Length")
	if text == "" {
		return nil // optional over UDP; the stream reader insists on it
	}
	n, err := strconv.Atoi(text)
	if err != nil || n != len(m.Body) {
		return fmt.Errorf("Content-Length %q with a body of %d bytes", text, len(m.Body))
	}
	return nil
}

// Get returns the first value of the header, or "".
func (m *Message) Get(name string) string {
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Values returns all values of the header; comma lists outside quotes and angle
// brackets count as several.
func (m *Message) Values(name string) []string {
	var values []string
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, splitList(h.Value)...)
		}
	}
	return values
}

func splitList(text string) []string {
	var parts []string
	quoted, angle, start := false, false, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			parts = append(parts, strings.TrimSpace(text[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(text[start:]))
}

// Add appends a header.
func (m *Message) Add(name, value string) { m.Headers = append(m.Headers, Header{name, value}) }

// Set replaces all headers of the name by one.
func (m *Message) Set(name, value string) {
	m.Del(name)
	m.Add(name, value)
}

// Del removes all headers of the name.
func (m *Message) Del(name string) {
	kept := m.Headers[:0:0]
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, name) {
			kept = append(kept, h)
		}
	}
	m.Headers = kept
}

// Clone returns a message whose headers may be changed.
func (m *Message) Clone() *Message {
	c := *m
	c.Headers = append([]Header(nil), m.Headers...)
	return &c
}

// Bytes renders the message; Content-Length is always that of the body.
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	if m.Method != "" {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.Method, m.URI)
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.Status, m.Reason)
	}
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, "Content-Length") {
			fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(m.Body))
	b.Write(m.Body)
	return b.Bytes()
}

// CSeq returns the number and method of the CSeq header.
func (m *Message) CSeq() (uint32, string) {
	number, method, _ := strings.Cut(m.Get("CSeq"), " ")
	n, _ := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	return uint32(n), strings.TrimSpace(method)
}

// branch returns the branch of the topmost Via, which names the transaction.
func (m *Message) branch() string {
	via := m.Values("Via")
	if len(via) == 0 {
		return ""
	}
	return param(via[0], "branch")
}

// param returns the value of a ;name=value parameter that follows the address.
func param(value, name string) string {
	if i := strings.LastIndexByte(value, '>'); i >= 0 {
		value = value[i+1:]
	}
	for _, p := range strings.Split(value, ";")[1:] {
		if k, v, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// uriOf returns the URI of a name-addr or addr-spec.
func uriOf(value string) string {
	if i := strings.IndexByte(value, '<'); i >= 0 {
		if j := strings.IndexByte(value[i:], '>'); j >= 0 {
			return value[i+1 : i+j]
		}
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// hostPort returns where a SIP URI points, with the default port of RFC 3261.
func hostPort(uri string) (string, error) {
	_, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", fmt.Errorf("uri %q", uri)
	}
	rest, _, _ = strings.Cut(rest, ";")
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	if !strings.Contains(rest, ":") || strings.HasSuffix(rest, "]") {
		rest += ":5060"
	}
	return rest, nil
}
