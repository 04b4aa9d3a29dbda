// Package format writes and reads JSON by the rules of one REST family, which
// differ from protojson's: 64-bit integers are numbers, a field without a value
// may be null, and free-form JSON passes through byte for byte.
package format

import (
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Policy is what families differ in.
type Policy struct {
	// NullUnset writes a field that has no value as null instead of leaving it
	// out.
	NullUnset bool
	// Except names the fields, in full, that go the other way.
	Except []protoreflect.FullName
}

// Codec writes and reads messages by one policy. It is safe for concurrent use.
type Codec struct {
	nullUnset bool
	except    map[protoreflect.FullName]bool
	// plans by protoreflect.MessageDescriptor: descriptors are compared by
	// identity, since two of one name may exist.
	plans sync.Map
}

// New returns a codec of the policy.
func New(p Policy) *Codec {
	c := &Codec{nullUnset: p.NullUnset, except: make(map[protoreflect.FullName]bool)}
	for _, name := range p.Except {
		c.except[name] = true
	}
	return c
}

const rawJSON = "callmesh.common.v1.RawJson"

// plan is what the codec knows of a message type, found once.
type plan struct {
	// raw is the bytes field of a RawJson, nil for other messages.
	raw    protoreflect.FieldDescriptor
	fields []fieldPlan
	byName map[string]*fieldPlan
	err    error
}

type fieldPlan struct {
	desc protoreflect.FieldDescriptor
	// key is the quoted name with its colon.
	key  string
	name string
	null bool
	// optional fields are asked whether they are set; the others always have a
	// value.
	optional bool
	enum     *enumPlan
	// value of a list or map; the field itself otherwise.
	value protoreflect.FieldDescriptor
}

// enumPlan holds an enum's words: INBOUND_CALL of enum Direction, declared as
// DIRECTION_INBOUND_CALL, is "inboundCall"; the zero value is no value.
type enumPlan struct {
	words   map[protoreflect.EnumNumber]string
	numbers map[string]protoreflect.EnumNumber
}

func (c *Codec) plan(d protoreflect.MessageDescriptor) *plan {
	if p, ok := c.plans.Load(d); ok {
		return p.(*plan)
	}
	p, _ := c.plans.LoadOrStore(d, c.build(d))
	return p.(*plan)
}

func (c *Codec) build(d protoreflect.MessageDescriptor) *plan {
	p := &plan{byName: make(map[string]*fieldPlan)}
	switch {
	case d.FullName() == rawJSON:
		p.raw = d.Fields().ByName("json")
		return p
	case strings.HasPrefix(string(d.FullName()), "google.protobuf."):
		// Each has a JSON form of its own: writing it as a plain message would
		// be wrong without anybody noticing.
		p.err = fmt.Errorf("format: %s has no form in this API", d.FullName())
		return p
	}
	p.fields = make([]fieldPlan, d.Fields().Len())
	for i := range p.fields {
		fd := d.Fields().Get(i)
		f := fieldPlan{
			desc: fd, name: fd.JSONName(), key: quote(fd.JSONName()) + ":",
			null:     c.nullUnset != c.except[fd.FullName()],
			optional: fd.HasPresence(),
			value:    fd,
		}
		if fd.IsMap() {
			f.value = fd.MapValue()
		}
		if e := f.value.Enum(); e != nil {
			f.enum = enumWords(e)
		}
		p.fields[i] = f
		p.byName[f.name] = &p.fields[i]
	}
	return p
}

func enumWords(e protoreflect.EnumDescriptor) *enumPlan {
	p := &enumPlan{words: map[protoreflect.EnumNumber]string{}, numbers: map[string]protoreflect.EnumNumber{}}
	prefix := screaming(string(e.Name())) + "_"
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if v.Number() == 0 {
			continue
		}
		word := camel(strings.TrimPrefix(string(v.Name()), prefix))
		if _, ok := p.words[v.Number()]; !ok {
			p.words[v.Number()] = word
		}
		p.numbers[word] = v.Number()
	}
	return p
}

// screaming turns CallState into CALL_STATE.
func screaming(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToUpper(string(r)))
	}
	return b.String()
}

// camel turns INBOUND_CALL into inboundCall.
func camel(name string) string {
	words := strings.Split(strings.ToLower(name), "_")
	for i, w := range words {
		if i > 0 && w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
