package format

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callmesh/callmesh/kit/fault"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	commonpb "github.com/callmesh/callmesh/proto/gen/callmesh/common/v1"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// every is a message with a field of every kind.
const every = `
name: "every.proto" package: "t" syntax: "proto3" dependency: "callmesh/common/v1/json.proto"
enum_type { name: "CallState"
  value { name: "CALL_STATE_UNSPECIFIED" number: 0 } value { name: "CALL_STATE_RINGING" number: 1 } value { name: "CALL_STATE_NO_ANSWER" number: 2 } }
message_type { name: "Every"
  field { name: "a_bool" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "an_int32" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "a_uint32" number: 3 type: TYPE_UINT32 label: LABEL_OPTIONAL }
  field { name: "an_int64" number: 4 type: TYPE_SINT64 label: LABEL_OPTIONAL }
  field { name: "a_uint64" number: 5 type: TYPE_FIXED64 label: LABEL_OPTIONAL }
  field { name: "a_float" number: 6 type: TYPE_FLOAT label: LABEL_OPTIONAL }
  field { name: "a_double" number: 7 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "a_string" number: 8 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "some_bytes" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "state" number: 10 type: TYPE_ENUM type_name: ".t.CallState" label: LABEL_OPTIONAL }
  field { name: "raw" number: 11 type: TYPE_MESSAGE type_name: ".callmesh.common.v1.RawJson" label: LABEL_OPTIONAL }
  field { name: "child" number: 12 type: TYPE_MESSAGE type_name: ".t.Every" label: LABEL_OPTIONAL }
  field { name: "numbers" number: 13 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "children" number: 14 type: TYPE_MESSAGE type_name: ".t.Every" label: LABEL_REPEATED }
  field { name: "raws" number: 15 type: TYPE_MESSAGE type_name: ".callmesh.common.v1.RawJson" label: LABEL_REPEATED }
  field { name: "headers" number: 16 type: TYPE_MESSAGE type_name: ".t.Every.HeadersEntry" label: LABEL_REPEATED }
  field { name: "states" number: 17 type: TYPE_ENUM type_name: ".t.CallState" label: LABEL_REPEATED }
  field { name: "maybe" number: 18 type: TYPE_STRING label: LABEL_OPTIONAL proto3_optional: true oneof_index: 0 }
  nested_type { name: "HeadersEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  oneof_decl { name: "_maybe" }
}`

func newEvery(t testing.TB) *dynamicpb.Message {
	t.Helper()
	var fd descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(every), &fd); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(&fd, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessage(file.Messages().Get(0))
}

const zero = `"aBool":false,"anInt32":0,"aUint32":0,"anInt64":0,"aUint64":0,"aFloat":0,"aDouble":0,"aString":"","someBytes":""`

func TestUnsetByPolicy(t *testing.T) {
	m := newEvery(t)
	for name, tc := range map[string]struct {
		policy Policy
		want   string
	}{
		"null":                    {Policy{NullUnset: true}, `{` + zero + `,"state":null,"raw":null,"child":null,"numbers":[],"children":[],"raws":[],"headers":{},"states":[],"maybe":null}`},
		"left out":                {Policy{}, `{` + zero + `,"numbers":[],"children":[],"raws":[],"headers":{},"states":[]}`},
		"left out but one":        {Policy{Except: []protoreflect.FullName{"t.Every.maybe"}}, `{` + zero + `,"numbers":[],"children":[],"raws":[],"headers":{},"states":[],"maybe":null}`},
		"null but one, which not": {Policy{NullUnset: true, Except: []protoreflect.FullName{"t.Every.raw"}}, `{` + zero + `,"state":null,"child":null,"numbers":[],"children":[],"raws":[],"headers":{},"states":[],"maybe":null}`},
	} {
		got, err := New(tc.policy).Append(nil, m)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, tc.want)
		}
	}
}

func TestDecodeAndEncodeAgree(t *testing.T) {
	const text = `{"aBool":true,"anInt32":-2147483648,"aUint32":4294967295,"anInt64":-9223372036854775808,"aUint64":18446744073709551615,` +
		`"aFloat":1.5,"aDouble":1e+300,"aString":"é\"\\\n\u0001\u2028😀","someBytes":"AAEC","state":"noAnswer","raw":{"big": 12345678901234567890},` +
		`"child":{"aString":"x"},"numbers":[1,9007199254740993],"children":[{"maybe":""}],"raws":[null,1, [2 ]],"headers":{"X-A":"1","X-B":"2"},"states":["ringing"],"maybe":"m"}`
	c := New(Policy{})
	m := newEvery(t)
	if err := c.Decode([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	got, err := c.Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	again := newEvery(t).ProtoReflect().New()
	if err := c.Decode(got, again); err != nil {
		t.Fatal(err)
	}
	twice, err := c.Append(nil, again)
	if err != nil || string(twice) != string(got) {
		t.Errorf("%s, %v\nwant %s", twice, err, got)
	}
	for _, part := range []string{`"anInt64":-9223372036854775808`, `"aUint64":18446744073709551615`, `"aDouble":1e+300`, `"raw":{"big": 12345678901234567890}`,
		`"raws":[null,1,[2 ]]`, `"headers":{"X-A":"1","X-B":"2"}`, `"state":"noAnswer"`, `"numbers":[1,9007199254740993]`, `"someBytes":"AAEC"`} {
		if !strings.Contains(string(got), part) {
			t.Errorf("%s lacks %s", got, part)
		}
	}
	if !json.Valid(got) {
		t.Error("no JSON")
	}
}

func TestWrongValuesNameTheirField(t *testing.T) {
	c := New(Policy{})
	for text, want := range map[string]string{
		`{"aBool":1}`:                      "aBool must be true or false",
		`{"aBool":"true"}`:                 "aBool must be true or false",
		`{"anInt32":"1"}`:                  "anInt32 must be a number",
		`{"anInt32":2147483648}`:           "anInt32 is out of range",
		`{"anInt32":1.5}`:                  "anInt32 must be a whole number",
		`{"aUint32":-1}`:                   "aUint32 is out of range",
		`{"anInt64":9223372036854775808}`:  "anInt64 is out of range",
		`{"anInt64":1e999999999}`:          "anInt64 is out of range",
		`{"anInt64":1e-999999999}`:         "anInt64 is out of range",
		`{"anInt64":[]}`:                   "anInt64 must be a number",
		`{"aUint64":18446744073709551616}`: "aUint64 is out of range",
		`{"aFloat":1e300}`:                 "aFloat is out of range",
		`{"aDouble":1e400}`:                "aDouble is out of range",
		`{"aString":{}}`:                   "aString must be a string",
		`{"someBytes":"?"}`:                "someBytes must be a base64 string",
		`{"someBytes":1}`:                  "someBytes must be a base64 string",
		`{"state":"unspecified"}`:          "state must be one of noAnswer, ringing",
		`{"state":1}`:                      "state must be a string",
		`{"child":[]}`:                     "child must be an object",
		`{"child":{"child":{"aBool":0}}}`:  "child.child.aBool must be true or false",
		`{"children":{}}`:                  "children must be an array",
		`{"children":[{},{"aString":3}]}`:  "children[1].aString must be a string",
		`{"numbers":[1,null]}`:             "numbers[1] must be a number",
		`{"headers":[]}`:                   "headers must be an object",
		`{"headers":{"X-A":1}}`:            "headers.X-A must be a string",
		strings.Repeat(`{"child":`, 40) + "{}" + strings.Repeat("}", 40): strings.TrimSuffix(strings.Repeat("child.", 33), ".") + " nests too deep",
	} {
		err := c.Decode([]byte(text), newEvery(t))
		f := fault.From(err)
		if err == nil || f.Reason != fault.BadRequest || f.Message != want || f.Field == "" || !strings.HasPrefix(want, f.Field) {
			t.Errorf("%.60s: %v on %q, want %s", text, err, f.Field, want)
		}
	}
}

func TestLenient(t *testing.T) {
	c := New(Policy{})
	for text, want := range map[string]string{
		`{"unknown":{"aBool":1},"a_string":"snake"}`:       `{` + zero,
		`{"aString":null,"child":null,"numbers":null}`:     `{` + zero,
		` {"anInt64" : 2e1 , "anInt32":20.0,"aUint32":-0}`: `"anInt32":20,"aUint32":0,"anInt64":20`,
		`{"aString":"a","aString":"b"}`:                    `"aString":"b"`,
		`{"raw":null}`:                                     `"raw":null`,
		`{"aString":"\ud800"}`:                             `"aString":"` + "\uFFFD" + `"`,
	} {
		m := newEvery(t)
		if err := c.Decode([]byte(text), m); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Append(nil, m); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestWhatHasNoForm(t *testing.T) {
	c := New(Policy{})
	// Nobody has said how this family writes a timestamp.
	if got, err := c.Append(nil, (&sessionpb.Session{Created: timestamppb.Now()}).ProtoReflect()); err == nil {
		t.Errorf("a timestamp was written as %s", got)
	}
	m := newEvery(t)
	m.Set(m.Descriptor().Fields().ByName("raw"), protoreflect.ValueOfMessage((&commonpb.RawJson{Json: []byte(`{"half":`)}).ProtoReflect()))
	if got, err := c.Append(nil, m); err == nil {
		t.Errorf("broken stored JSON was written: %s", got)
	}
	for _, f := range []float64{math.NaN(), math.Inf(1)} {
		m := newEvery(t)
		m.Set(m.Descriptor().Fields().ByName("a_double"), protoreflect.ValueOfFloat64(f))
		if got, err := c.Append(nil, m); err != nil || !strings.Contains(string(got), `"aDouble":null`) {
			t.Errorf("%s, %v", got, err)
		}
	}
	if got, err := c.Append(nil, (*callspb.Session)(nil).ProtoReflect()); err != nil || string(got) != "null" {
		t.Errorf("no message: %s, %v", got, err)
	}
}

func TestStringsAreEscapedAsJSONWants(t *testing.T) {
	for _, s := range []string{"", "plain", "\x00\x1f\"\\/\b\f\n\r\t\x7f", "å\u2028\u2029😀", "bad \xff\xc3 utf", "\xed\xa0\x80"} {
		var back string
		if err := json.Unmarshal([]byte(quote(s)), &back); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if want := string([]rune(s)); back != want {
			t.Errorf("%q came back as %q", s, back)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"replyId":"x"}`, `{"aBool":true,"numbers":[1,2],"child":{"raw":[1]},"headers":{"a":"b"}}`, `{"anInt64":1e3}`, `[]`, `{`, `null`, "{\"aString\":\"\xff\"}",
		`{"state":"ringing","states":["noAnswer"],"someBytes":"AAEC","aFloat":1e38,"children":[{}]}`,
	} {
		f.Add([]byte(seed))
	}
	c := New(Policy{})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newEvery(t)
		err := c.Decode(body, m)
		if err != nil {
			if fault.ReasonOf(err) != fault.BadRequest {
				t.Fatalf("%v is no BadRequest", err)
			}
			return
		}
		text, err := c.Append(nil, m)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%s: %s, %v", body, text, err)
		}
		again := m.New()
		if err := c.Decode(text, again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if twice, err := c.Append(nil, again); err != nil || string(twice) != string(text) {
			t.Fatalf("%s\nthen %s, %v", text, twice, err)
		}
	})
}

func benchmarkSession() *callspb.Session {
	return &callspb.Session{
		Id: proto.Int64(9007199254740991), DomainId: proto.Int64(12),
		Domain:      &callspb.Domain{TenantId: proto.Int64(1), Domain: proto.String("demo.callmesh.test"), Active: proto.Bool(true)},
		Destination: proto.String("1000"), CallerId: proto.String("+46850510"), Direction: proto.String("incoming"),
		Token: proto.String("018f3a7c9d4e7b12a5c60f1e2d3c4b5a"), CallStartTime: proto.Int64(1767225600123), CallAnswerTime: proto.Int64(1767225601456),
		StartTime: proto.String("2026-01-01T00:00:00.123Z"), AnswerTime: proto.String("2026-01-01T00:00:01.456Z"),
		Profile: &commonpb.RawJson{Json: []byte(`{"sip-headers":{"Plan":"gold"}}`)}, Status: proto.String("connected"),
		CreatedAt: proto.String("2026-01-01T00:00:00.120Z"), ModifiedAt: proto.String("2026-01-01T00:00:01.456Z"),
	}
}

func BenchmarkEncodeSession(b *testing.B) {
	c := New(Policy{NullUnset: true})
	m := benchmarkSession().ProtoReflect()
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = c.Append(buf[:0], m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeHangUp(b *testing.B) {
	c := New(Policy{})
	body := []byte(`{"replyId":"` + strings.Repeat("eyJhbGciOi", 20) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		var m mediaservicepb.HangUpCallRequest
		if err := c.Decode(body, m.ProtoReflect()); err != nil {
			b.Fatal(err)
		}
	}
}
