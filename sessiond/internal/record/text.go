package record

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// clean replaces what is not UTF-8 in every string of a message. Phones send
// Latin-1 in display names, Subject and SDP; proto strings must be UTF-8, and a
// session that could not be stored could not be ended either.
func clean(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			return true // the record has none
		case f.IsList():
			cleanList(f, v.List())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(valid(v.String())))
		case f.Kind() == protoreflect.MessageKind:
			clean(v.Message())
		}
		return true
	})
}

func cleanList(f protoreflect.FieldDescriptor, l protoreflect.List) {
	for i := range l.Len() {
		switch f.Kind() {
		case protoreflect.StringKind:
			l.Set(i, protoreflect.ValueOfString(valid(l.Get(i).String())))
		case protoreflect.MessageKind:
			clean(l.Get(i).Message())
		}
	}
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
