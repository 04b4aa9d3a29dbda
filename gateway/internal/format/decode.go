package format

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callmesh/callmesh/kit/fault"
)

// maxDepth bounds how deep messages may nest: none of ours comes close.
const maxDepth = 32

// Decode reads one JSON object into m. Unknown fields are ignored (contract
// §0), null is no value; anything else that does not fit is a BadRequest that
// names the field.
func (c *Codec) Decode(body []byte, m protoreflect.Message) error {
	if !utf8.Valid(body) {
		return fault.New(fault.BadRequest, "request body is not UTF-8")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fault.New(fault.BadRequest, "request body is empty, a JSON object is expected")
	}
	if err := syntax(body); err != nil {
		return err
	}
	return c.message(body, m, "", 0)
}

// syntax says where the text stops being JSON.
func syntax(body []byte) error {
	if json.Valid(body) {
		return nil
	}
	var v json.RawMessage
	err := json.Unmarshal(body, &v)
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fault.New(fault.BadRequest, "request body is not JSON: error at byte %d", at.Offset)
	}
	return fault.New(fault.BadRequest, "request body is not JSON")
}

func (c *Codec) message(body []byte, m protoreflect.Message, path string, depth int) error {
	p := c.plan(m.Descriptor())
	switch {
	case p.err != nil:
		return p.err
	case p.raw != nil:
		m.Set(p.raw, protoreflect.ValueOfBytes(bytes.Clone(bytes.TrimSpace(body))))
		return nil
	case depth > maxDepth:
		return wrong(path, "nests too deep")
	}
	var fields map[string]json.RawMessage
	if kind(body) != '{' || json.Unmarshal(body, &fields) != nil {
		return wrong(path, "must be an object")
	}
	for name, text := range fields {
		f := p.byName[name]
		if f == nil || (kind(text) == 'n' && !f.isRaw()) {
			continue
		}
		if err := c.set(m, f, text, join(path, name), depth); err != nil {
			return err
		}
	}
	return nil
}

// isRaw fields keep null: it is a JSON value like others.
func (f *fieldPlan) isRaw() bool {
	return f.desc.Message() != nil && f.desc.Message().FullName() == rawJSON && !f.desc.IsList()
}

func (c *Codec) set(m protoreflect.Message, f *fieldPlan, text json.RawMessage, path string, depth int) error {
	switch {
	case f.desc.IsList():
		var items []json.RawMessage
		if kind(text) != '[' || json.Unmarshal(text, &items) != nil {
			return wrong(path, "must be an array")
		}
		list := m.Mutable(f.desc).List()
		for i, item := range items {
			v, err := c.read(f, list.NewElement, item, path+"["+strconv.Itoa(i)+"]", depth)
			if err != nil {
				return err
			}
			list.Append(v)
		}
		return nil
	case f.desc.IsMap():
		return c.setMap(m, f, text, path, depth)
	}
	v, err := c.read(f, func() protoreflect.Value { return m.NewField(f.desc) }, text, path, depth)
	if err != nil {
		return err
	}
	m.Set(f.desc, v)
	return nil
}

func (c *Codec) setMap(m protoreflect.Message, f *fieldPlan, text json.RawMessage, path string, depth int) error {
	if f.desc.MapKey().Kind() != protoreflect.StringKind {
		return fmt.Errorf("format: %s has keys that are no strings", f.desc.FullName())
	}
	var entries map[string]json.RawMessage
	if kind(text) != '{' || json.Unmarshal(text, &entries) != nil {
		return wrong(path, "must be an object")
	}
	into := m.Mutable(f.desc).Map()
	for key, item := range entries {
		v, err := c.read(f, into.NewValue, item, join(path, key), depth)
		if err != nil {
			return err
		}
		into.Set(protoreflect.ValueOfString(key).MapKey(), v)
	}
	return nil
}

func (c *Codec) read(f *fieldPlan, empty func() protoreflect.Value, text json.RawMessage, path string, depth int) (protoreflect.Value, error) {
	switch f.value.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := empty()
		return v, c.message(text, v.Message(), path, depth+1)
	case protoreflect.BoolKind:
		if k := kind(text); k != 't' && k != 'f' {
			return protoreflect.Value{}, wrong(path, "must be true or false")
		}
		return protoreflect.ValueOfBool(kind(text) == 't'), nil
	case protoreflect.StringKind:
		s, err := str(text, path, "must be a string")
		return protoreflect.ValueOfString(s), err
	case protoreflect.BytesKind:
		s, err := str(text, path, "must be a base64 string")
		if err != nil {
			return protoreflect.Value{}, err
		}
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return protoreflect.Value{}, wrong(path, "must be a base64 string")
		}
		return protoreflect.ValueOfBytes(raw), nil
	case protoreflect.EnumKind:
		return word(f, text, path)
	}
	return number(f.value.Kind(), text, path)
}

func word(f *fieldPlan, text json.RawMessage, path string) (protoreflect.Value, error) {
	s, err := str(text, path, "must be a string")
	if err != nil {
		return protoreflect.Value{}, err
	}
	n, ok := f.enum.numbers[s]
	if !ok {
		words := make([]string, 0, len(f.enum.numbers))
		for w := range f.enum.numbers {
			words = append(words, w)
		}
		slices.Sort(words)
		return protoreflect.Value{}, wrong(path, "must be one of "+strings.Join(words, ", "))
	}
	return protoreflect.ValueOfEnum(n), nil
}

func str(text json.RawMessage, path, expected string) (string, error) {
	var s string
	if kind(text) != '"' || json.Unmarshal(text, &s) != nil {
		return "", wrong(path, expected)
	}
	return s, nil
}

func number(k protoreflect.Kind, text json.RawMessage, path string) (protoreflect.Value, error) {
	if kind(text) != '0' {
		return protoreflect.Value{}, wrong(path, "must be a number")
	}
	s := string(bytes.TrimSpace(text))
	switch k {
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		bits := 64
		if k == protoreflect.FloatKind {
			bits = 32
		}
		x, err := strconv.ParseFloat(s, bits)
		if err != nil {
			return protoreflect.Value{}, wrong(path, "is out of range")
		}
		if bits == 32 {
			return protoreflect.ValueOfFloat32(float32(x)), nil
		}
		return protoreflect.ValueOfFloat64(x), nil
	}
	n, err := integer(s, path)
	if err != nil {
		return protoreflect.Value{}, err
	}
	switch k {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if n.IsInt64() && n.Int64() >= math.MinInt32 && n.Int64() <= math.MaxInt32 {
			return protoreflect.ValueOfInt32(int32(n.Int64())), nil
		}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if n.IsUint64() && n.Uint64() <= math.MaxUint32 {
			return protoreflect.ValueOfUint32(uint32(n.Uint64())), nil
		}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if n.IsUint64() {
			return protoreflect.ValueOfUint64(n.Uint64()), nil
		}
	default:
		if n.IsInt64() {
			return protoreflect.ValueOfInt64(n.Int64()), nil
		}
	}
	return protoreflect.Value{}, wrong(path, "is out of range")
}

// maxNumber bounds the digits and the exponent of an integer, so that 1e999999
// costs nothing.
const maxNumber = 32

// integer reads 20, 20.0 and 2e1 alike: JSON knows one kind of number.
func integer(s, path string) (*big.Int, error) {
	if len(s) > maxNumber {
		return nil, wrong(path, "is out of range")
	}
	if n, ok := new(big.Int).SetString(s, 10); ok {
		return n, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err != nil || math.Abs(f) > 1e20 {
		return nil, wrong(path, "is out of range")
	}
	if _, exp, ok := strings.Cut(strings.ToLower(s), "e"); ok {
		if e, err := strconv.Atoi(exp); err != nil || e < -maxNumber || e > maxNumber {
			return nil, wrong(path, "is out of range")
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok || !r.IsInt() {
		return nil, wrong(path, "must be a whole number")
	}
	return r.Num(), nil
}

// kind returns the first byte of a value, with '0' for all numbers.
func kind(text []byte) byte {
	text = bytes.TrimLeft(text, " \t\r\n")
	if len(text) == 0 {
		return 0
	}
	if ch := text[0]; ch == '-' || (ch >= '0' && ch <= '9') {
		return '0'
	}
	return text[0]
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func wrong(path, what string) error {
	if path == "" {
		return fault.New(fault.BadRequest, "request body %s", what)
	}
	return fault.New(fault.BadRequest, "%s %s", path, what).On(path)
}
