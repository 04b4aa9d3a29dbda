package record

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// full returns a session with every field set, so that a field which the
// record forgets shows up here.
func full(t *testing.T) call.Session {
	t.Helper()
	var s call.Session
	fill(t, reflect.ValueOf(&s).Elem())
	s.State, s.Stage, s.Outcome, s.Direction = call.Ended, call.Closing, call.Busy, call.Incoming
	s.Cause.By = call.ByCaller
	s.Participants[0].Phase, s.Participants[0].Mode = call.Established, call.InDialogue
	return s
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_123).UTC()))
		return
	case uuid.UUID:
		v.Set(reflect.ValueOf(uuid.MustParse("01900000-0000-7000-8000-000000000001")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(1.5)
	default:
		t.Fatalf("no sample for %s", v.Type())
	}
}

func TestNothingIsLostOnTheWayToTheStoreAndBack(t *testing.T) {
	want := full(t)
	b, err := Encode(Stored{Session: want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Session); diff != "" {
		t.Error(diff)
	}
}

func TestTextThatIsNotUTF8CanBeStored(t *testing.T) {
	s := full(t)
	s.Subject, s.Caller.DisplayName, s.Caller.DivertedBy = "Caf\xe9", "J\xfcrgen", []string{"\xff"}
	s.Headers[0].Value, s.Cause.Text = "\xe9", "\xe9"
	b, err := Encode(Stored{Session: s, Dialogs: []*sessionpb.Dialog{{LocalSdp: "v=0\r\ns=\xe9\r\n", RouteSet: []string{"<sip:\xff@x>"}}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil || got.Session.Subject != "Caf\uFFFD" || got.Dialogs[0].GetLocalSdp() != "v=0\r\ns=\uFFFD\r\n" {
		t.Errorf("%q, %v", got.Session.Subject, err)
	}
}

func TestGarbageIsAnError(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("garbage"), {0xff}} {
		if _, err := Decode(b); err == nil {
			t.Errorf("%q decoded", b)
		}
	}
}
