// Package header reads the header section of a SIP message as it was sent:
// which fields, in which order, with which text. The typed parser that gives us
// requests and responses forgets some of that (a second Call-ID, the spelling
// of a Via that an answer must repeat, blanks around a parameter's name), and
// validation, answers and the copying of X- headers depend on it.
package header

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// Field is one header line, unfolded. A line that holds a list is one field.
type Field struct {
	// Name as sent, blanks removed.
	Name string
	// Key is the name in lower case, compact forms (RFC 3261 §7.3.3) spelt out.
	Key   string
	Value string
}

// Message is the outline of a SIP message.
type Message struct {
	// StartLine without its line end.
	StartLine string
	Fields    []Field
	// Body is all that follows the empty line.
	Body []byte
}

// Errors of Scan.
var (
	ErrTooManyFields = errors.New("header: too many fields")
	ErrNoEnd         = errors.New("header: no empty line after the header fields")
	ErrMalformed     = errors.New("header: malformed field")
	ErrEmpty         = errors.New("header: no message")
)

// MaxFields bounds the work that one message can cause.
const MaxFields = 256

var compact = map[byte]string{
	'a': "accept-contact", 'b': "referred-by", 'c': "content-type", 'd': "request-disposition",
	'e': "content-encoding", 'f': "from", 'i': "call-id", 'j': "reject-contact", 'k': "supported",
	'l': "content-length", 'm': "contact", 'n': "identity-info", 'o': "event", 'r': "refer-to",
	's': "subject", 't': "to", 'u': "allow-events", 'v': "via", 'x': "session-expires", 'y': "identity",
}

// Scan splits a message. What could be read is returned with an error too, so
// that a malformed request can be answered.
func Scan(raw []byte) (Message, error) {
	var m Message
	// RFC 3261 §7.5: blank lines before the start line are ignored.
	rest := bytes.TrimLeft(raw, "\r\n")
	if len(rest) == 0 {
		return m, ErrEmpty
	}
	line, rest, _ := cutLine(rest)
	m.StartLine = string(line)
	m.Fields = make([]Field, 0, 16)

	var bad error
	for {
		if len(rest) == 0 {
			return m, errors.Join(ErrNoEnd, bad)
		}
		var more bool
		line, rest, more = cutLine(rest)
		if len(line) == 0 {
			break
		}
		if !more {
			return m, errors.Join(ErrNoEnd, bad)
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(m.Fields) == 0 {
				bad = ErrMalformed
				continue
			}
			if bytes.ContainsAny(line, "\r\x00") {
				bad = ErrMalformed
				continue
			}
			last := &m.Fields[len(m.Fields)-1]
			last.Value = strings.TrimSpace(last.Value + " " + string(bytes.TrimSpace(line)))
			continue
		}
		if len(m.Fields) == MaxFields {
			return m, ErrTooManyFields
		}
		f, ok := parseField(line)
		if !ok {
			bad = ErrMalformed
			continue
		}
		m.Fields = append(m.Fields, f)
	}
	m.Body = rest
	return m, bad
}

// cutLine takes a line off, ended by CRLF or, leniently, by a bare LF.
func cutLine(b []byte) (line, rest []byte, found bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return bytes.TrimSuffix(b, []byte{'\r'}), nil, false
	}
	return bytes.TrimSuffix(b[:i], []byte{'\r'}), b[i+1:], true
}

func parseField(line []byte) (Field, bool) {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return Field{}, false
	}
	name = bytes.TrimRight(name, " \t")
	// A lone CR or a zero byte would end the line for somebody further on.
	if !IsToken(string(name)) || bytes.ContainsAny(value, "\r\x00") {
		return Field{}, false
	}
	f := Field{Name: string(name), Value: string(bytes.TrimSpace(value))}
	f.Key = strings.ToLower(f.Name)
	if len(f.Key) == 1 {
		if long, ok := compact[f.Key[0]]; ok {
			f.Key = long
		}
	}
	return f, true
}

// Get returns the value of the first field of that key, given in lower case.
func (m *Message) Get(key string) (string, bool) {
	for i := range m.Fields {
		if m.Fields[i].Key == key {
			return m.Fields[i].Value, true
		}
	}
	return "", false
}

// Value is Get without the second result.
func (m *Message) Value(key string) string {
	v, _ := m.Get(key)
	return v
}

// Count returns how many lines of that key there are.
func (m *Message) Count(key string) int {
	n := 0
	for i := range m.Fields {
		if m.Fields[i].Key == key {
			n++
		}
	}
	return n
}

// Lines returns the values of every line of that key, as sent.
func (m *Message) Lines(key string) []string {
	var all []string
	for i := range m.Fields {
		if m.Fields[i].Key == key {
			all = append(all, m.Fields[i].Value)
		}
	}
	return all
}

// List returns the elements of a comma-separated header over all its lines.
func (m *Message) List(key string) []string {
	var all []string
	for i := range m.Fields {
		if m.Fields[i].Key == key {
			all = append(all, SplitList(m.Fields[i].Value)...)
		}
	}
	return all
}

// CSeq reads the CSeq field.
func (m *Message) CSeq() (seq uint32, method string, ok bool) {
	num, method, ok := strings.Cut(strings.ReplaceAll(m.Value("cseq"), "\t", " "), " ")
	if !ok {
		return 0, "", false
	}
	n, err := strconv.ParseUint(num, 10, 32)
	method = strings.TrimSpace(method)
	// RFC 3261 §8.1.1.5: less than 2**31.
	if err != nil || n > 1<<31-1 || !IsToken(method) {
		return 0, "", false
	}
	return uint32(n), method, true
}

// Tag returns the tag of the From or To field.
func (m *Message) Tag(key string) string {
	a, err := ParseAddress(m.Value(key))
	if err != nil {
		return ""
	}
	return a.Param("tag")
}
