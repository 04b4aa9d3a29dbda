package format

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Append appends the JSON of m to b. A message that is not there is null.
func (c *Codec) Append(b []byte, m protoreflect.Message) ([]byte, error) {
	if !m.IsValid() {
		return append(b, "null"...), nil
	}
	p := c.plan(m.Descriptor())
	if p.err != nil {
		return b, p.err
	}
	if p.raw != nil {
		return appendRaw(b, m.Get(p.raw).Bytes())
	}
	b = append(b, '{')
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		v, ok := f.get(m)
		if !ok && !f.null {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.key...)
		if !ok {
			b = append(b, "null"...)
			continue
		}
		var err error
		if b, err = c.field(b, f, v); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// get returns the field's value and whether it has one that JSON can show.
func (f *fieldPlan) get(m protoreflect.Message) (protoreflect.Value, bool) {
	if f.optional && !m.Has(f.desc) {
		return protoreflect.Value{}, false
	}
	v := m.Get(f.desc)
	switch {
	case f.desc.IsList() || f.desc.IsMap():
		return v, true
	case f.enum != nil:
		return v, f.enum.words[v.Enum()] != ""
	case f.value.Kind() == protoreflect.MessageKind && f.value.Message().FullName() == rawJSON:
		raw := v.Message()
		return v, len(raw.Get(raw.Descriptor().Fields().ByNumber(1)).Bytes()) > 0
	}
	return v, true
}

func (c *Codec) field(b []byte, f *fieldPlan, v protoreflect.Value) ([]byte, error) {
	switch {
	case f.desc.IsList():
		return c.list(b, f, v.List())
	case f.desc.IsMap():
		return c.object(b, f, v.Map())
	}
	return c.value(b, f, v)
}

func (c *Codec) list(b []byte, f *fieldPlan, l protoreflect.List) ([]byte, error) {
	b = append(b, '[')
	for i := range l.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = c.value(b, f, l.Get(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func (c *Codec) object(b []byte, f *fieldPlan, m protoreflect.Map) ([]byte, error) {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	// In one order, so that equal answers are equal bytes.
	slices.SortFunc(keys, func(x, y protoreflect.MapKey) int { return strings.Compare(x.String(), y.String()) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k.String()), ':')
		var err error
		if b, err = c.value(b, f, m.Get(k)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func (c *Codec) value(b []byte, f *fieldPlan, v protoreflect.Value) ([]byte, error) {
	switch f.value.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool()), nil
	case protoreflect.StringKind:
		return appendString(b, v.String()), nil
	case protoreflect.BytesKind:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"'), nil
	case protoreflect.EnumKind:
		if word := f.enum.words[v.Enum()]; word != "" {
			return appendString(b, word), nil
		}
		return append(b, "null"...), nil
	case protoreflect.FloatKind:
		return appendFloat(b, v.Float(), 32), nil
	case protoreflect.DoubleKind:
		return appendFloat(b, v.Float(), 64), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return c.Append(b, v.Message())
	default:
		return strconv.AppendInt(b, v.Int(), 10), nil
	}
}

// appendRaw passes free-form JSON through as it was given; json.Valid because
// one broken value would break the whole answer.
func appendRaw(b, raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return append(b, "null"...), nil
	}
	if !json.Valid(raw) {
		return b, fmt.Errorf("format: stored value is not JSON (%d bytes)", len(raw))
	}
	return append(b, raw...), nil
}

// appendFloat writes null for what JSON has no number for.
func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	verb := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		verb = 'e'
	}
	return strconv.AppendFloat(b, f, verb, -1, bits)
}

const hex = "0123456789abcdef"

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		ch := s[i]
		if ch < utf8.RuneSelf {
			if ch >= ' ' && ch != '"' && ch != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscape(b, ch)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(append(b, s[start:i]...), "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscape(b []byte, ch byte) []byte {
	switch ch {
	case '"', '\\':
		return append(b, '\\', ch)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hex[ch>>4], hex[ch&15])
}

func quote(s string) string { return string(appendString(nil, s)) }
