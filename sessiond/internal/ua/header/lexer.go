package header

import (
	"iter"
	"strings"
)

// IsToken tells whether s is a token (RFC 3261 §25.1).
func IsToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-.!%*_+`'~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// SplitList splits a comma-separated value; commas in quotes or in angle
// brackets do not count. Empty elements are left out.
func SplitList(v string) []string {
	var all []string
	for part := range Elements(v, ',') {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// Elements yields the parts of v between separators that are neither quoted
// nor within angle brackets.
func Elements(v string, sep byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, angle := 0, false
		for i := 0; i < len(v); i++ {
			switch c := v[i]; {
			case c == '"' && !angle:
				n := closingQuote(v[i:])
				if n < 0 {
					yield(v[start:])
					return
				}
				i += n
			case c == '<':
				angle = true
			case c == '>':
				angle = false
			case c == sep && !angle:
				if !yield(v[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(v[start:])
	}
}

// closingQuote returns the index of the quote that ends the quoted string at
// the start of v, or -1.
func closingQuote(v string) int {
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// Unquote removes the quotes and escapes of a quoted string; other text is
// returned as it is.
func Unquote(v string) string {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return v
	}
	v = v[1 : len(v)-1]
	if strings.IndexByte(v, '\\') < 0 {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

// Clean makes text safe as a header value: no line ends, no control characters.
func Clean(v string) string {
	if strings.IndexFunc(v, isControl) < 0 {
		return v
	}
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, v)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
