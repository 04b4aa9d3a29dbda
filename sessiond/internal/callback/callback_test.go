package callback

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/call"
)

var (
	id      = uuid.MustParse("01900000-0000-7000-8000-000000000001")
	session = call.Session{
		ID: id, Domain: "demo.test", TraceID: "trace", SIPCallID: "abc@phone",
		Caller: call.Party{FromUser: "alice", Asserted: "+4686", DisplayName: "Alice", Private: true, DivertedBy: []string{"<sip:1@x>", "<sip:2@x>"}},
		Callee: call.Party{Number: "1000"}, Source: call.Endpoint{IP: "192.0.2.1"}, Subject: "hello",
		Headers:     []call.Header{{Name: "X-One", Value: "1"}, {Name: "X-Two", Value: "a"}, {Name: "X-Two", Value: "b"}, {Name: "P-Charge", Value: "p"}},
		ReferenceID: json.RawMessage(`{"big":12345678901234567890}`),
		Started:     time.UnixMilli(1000), Ended: time.UnixMilli(43_999), CompletedReason: "hangup",
		Participants: []call.Participant{{ID: id, Leg: 1}}, State: call.Connected,
	}
	site = Site{Server: "10.0.0.1"}
	env  = Envelope{ReplyID: "reply", TransactionID: "tx"}
)

func same(t *testing.T, got []byte, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Error(diff)
	}
}

const envelopeJSON = `"sessionId":"01900000-0000-7000-8000-000000000001","domain":"demo.test","traceId":"trace","ivrServer":"10.0.0.1",
	"replyId":"reply","httpTransactionId":"tx","sessionReferenceId":{"big":12345678901234567890}`

func TestNewCallSaysWhatTheInviteSaid(t *testing.T) {
	got, err := NewCall(session, site, env)
	same(t, got, err, `{`+envelopeJSON+`,"sipCallId":"abc@phone","callingPartyPrivacy":"secret","callingParty":"+4686","displayName":"Alice",
		"fromUser":"alice","xHeaders":{"X-One":"1","X-Two":["a","b"]},"pHeaders":{"P-Charge":"p"},"copyHeaders":["P-Charge","X-One","X-Two"],
		"calledParty":"1000","diversionHeaders":"<sip:1@x>, <sip:2@x>","paiNumber":"+4686","subject":"hello","srcAddr":"192.0.2.1"}`)
	if !strings.Contains(string(got), `{"big":12345678901234567890}`) {
		t.Error("sessionReferenceId was not echoed byte for byte")
	}
}

func TestWhatTheInviteLacksIsLeftOut(t *testing.T) {
	bare := call.Session{ID: id, SIPCallID: "c", Callee: call.Party{Number: "1"}, Source: call.Endpoint{IP: "192.0.2.1"}}
	got, err := NewCall(bare, site, env)
	same(t, got, err, `{"sessionId":"01900000-0000-7000-8000-000000000001","ivrServer":"10.0.0.1","replyId":"reply","httpTransactionId":"tx",
		"sipCallId":"c","callingPartyPrivacy":"public","calledParty":"1","srcAddr":"192.0.2.1"}`)
}

func TestQuestionsOfOtherDaemonsGetTheCommonFields(t *testing.T) {
	got, err := Question([]byte(` {"dtmfBuffer":"12", "n": 12345678901234567890} `), session, site, env)
	same(t, got, err, `{`+envelopeJSON+`,"dtmfBuffer":"12","n":12345678901234567890}`)
	for _, empty := range []string{"", "{}", " { } "} {
		got, err := Question([]byte(empty), session, site, env)
		same(t, got, err, `{`+envelopeJSON+`}`)
	}
	for _, bad := range []string{"[1]", "1", "{", `{"a":1}x`} {
		if _, err := Question([]byte(bad), session, site, env); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSessionCompletedCountsWholeSeconds(t *testing.T) {
	got, err := SessionCompleted(session, site, env)
	same(t, got, err, `{`+envelopeJSON+`,"sessionDuration":"42","reason":"hangup"}`)
}

func TestAlarms(t *testing.T) {
	got, err := Alarm(call.Alarm{Type: "callError", Error: "RTP media timeout", OfCall: true}, session, site, env)
	same(t, got, err, `{`+envelopeJSON+`,"type":"callError","error":"RTP media timeout","status":"connected",
		"participantId":"01900000-0000-7000-8000-000000000001","callId":"abc@phone"}`)
	got, err = Alarm(call.Alarm{Type: "sessionError", Error: "maxDuration", Details: `{"a":"b"}`}, session, site, env)
	same(t, got, err, `{`+envelopeJSON+`,"type":"sessionError","error":"maxDuration","errorDetails":{"a":"b"}}`)
}

func TestDecide(t *testing.T) {
	for body, want := range map[string]struct {
		action call.Action
		drop   call.DropCode
		alarm  string
	}{
		`{"action":"ivr","unknown":1}`:            {action: call.ActionIVR},
		`{"action":"drop"}`:                       {action: call.ActionDrop, drop: call.DropNoMessage},
		`{"action":"drop","dropCode":"busy"}`:     {action: call.ActionDrop, drop: call.DropBusy},
		`{"action":"drop","dropCode":"nonsense"}`: {call.ActionDrop, call.DropError, "newCall request failed"},
		``:                                       {call.ActionDrop, call.DropError, "newCall response empty"},
		` `:                                      {call.ActionDrop, call.DropError, "newCall response empty"},
		`{}`:                                     {call.ActionDrop, call.DropError, "newCall response without action"},
		`{"action":""}`:                          {call.ActionDrop, call.DropError, "newCall response without action"},
		`{"action":null}`:                        {call.ActionDrop, call.DropError, "newCall response without action"},
		`{"action":"fly"}`:                       {call.ActionDrop, call.DropError, "newCall response with unknown action"},
		`{"action":"call","destAddr":"sip:a@b"}`: {call.ActionDrop, call.DropError, "newCall response with unknown action"},
		`<html>`:                                 {call.ActionDrop, call.DropError, "newCall request failed"},
		`{"action":7}`:                           {call.ActionDrop, call.DropError, "newCall request failed"},
		`["action"]`:                             {call.ActionDrop, call.DropError, "newCall request failed"},
		`{"action":"ivr","sessionReferenceId":null}`: {action: call.ActionIVR},
	} {
		d := Decide([]byte(body))
		if d.Action != want.action || d.DropCode != want.drop || d.Failure != want.alarm {
			t.Errorf("%s: %+v", body, d)
		}
		if want.alarm != "" && (len(d.Alarms) != 1 || d.Alarms[0].Error != want.alarm || d.Alarms[0].Type != "newCallEventError") {
			t.Errorf("%s: alarms %+v", body, d.Alarms)
		}
	}
}

func TestFallback(t *testing.T) {
	bad := Failed("connection refused")
	if d := (Fallback{}).FallBack(bad); d.Action != call.ActionDrop || d.DropCode != call.DropError || len(d.Alarms) != 1 {
		t.Errorf("none: %+v", d)
	}
	if d := (Fallback{Action: "drop"}).FallBack(bad); d.DropCode != call.DropUnavailable || d.Alarms[1].Error != "triggeredByError" {
		t.Errorf("drop: %+v", d)
	}
	d := Fallback{Action: "ivr", Prompt: "sorry.wav"}.FallBack(bad)
	if d.Action != call.ActionIVR || !strings.Contains(string(d.Command), "sorry.wav") {
		t.Errorf("ivr: %+v", d)
	}
	if d := (Fallback{Action: "ivr"}).FallBack(call.Decision{Action: call.ActionIVR}); len(d.Alarms) != 0 {
		t.Errorf("a good decision fell back: %+v", d)
	}
	if d := (Fallback{Action: "drop", Always: true}).Force(); d.Alarms[0].Error != "triggeredByAlways" {
		t.Errorf("always: %+v", d)
	}
}

func FuzzDecide(f *testing.F) {
	for _, seed := range []string{`{"action":"ivr"}`, `{"action":"drop","dropCode":"busy"}`, ``, `{"action":{}}`, `{"sessionReferenceId":[1e999]}`, "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := Decide(body)
		if d.Action != call.ActionIVR && d.Action != call.ActionDrop {
			t.Errorf("action %q", d.Action)
		}
		for _, a := range d.Alarms {
			if a.Details != "" && !json.Valid([]byte(a.Details)) {
				t.Errorf("details %q", a.Details)
			}
		}
	})
}
