package command_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
)

func TestEveryField(t *testing.T) {
	got, err := command.Parse([]byte(`{
		"sessionId": "b3c9", "sessionReferenceId": {"any": [1]}, "replyId": "x", "unknown": 1,
		"dtmf": {"flush": true, "encryption": {"type": "md5", "salt": "s"}, "maxDigits": 10,
		         "firstTimeout": 30, "betweenTimeout": 3, "terminationKey": "#d"},
		"phrases": [
			{"format": "file", "fileName": "welcome.wav"},
			{"format": "url", "url": "https://example.com/a.wav?sig=1", "cacheTimeToLive": "WEEK", "refreshCache": true},
			{"format": "url", "fileName": "http://example.com/b.wav", "cacheTimeToLive": "NONE"}
		],
		"backgroundPrompt": {"fileName": "music.wav", "repeatPause": 1.5},
		"bargeIn": "current", "recordedCallback": true, "hangup": true, "getIVRCommandAfter": 20
	}`))
	if err != nil {
		t.Fatal(err)
	}
	week, none, after := 7*24*time.Hour, time.Duration(0), 20*time.Second
	want := command.Command{
		DTMF: &command.DTMF{
			Flush: true, Encryption: &command.Encryption{Type: "md5", Salt: "s"}, MaxDigits: 10,
			FirstTimeout: 30 * time.Second, BetweenTimeout: 3 * time.Second, TerminationKeys: "#D",
		},
		Phrases: []command.Phrase{
			{Format: "file", FileName: "welcome.wav"},
			{Format: "url", URL: "https://example.com/a.wav?sig=1", Keep: &week, Refresh: true},
			{Format: "url", URL: "http://example.com/b.wav", Keep: &none},
		},
		Background: &command.Background{FileName: "music.wav", RepeatPause: 1500 * time.Millisecond},
		BargeIn:    "current", RecordedCallback: true, Hangup: true, After: &after,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	got, err := command.Parse([]byte(`{"dtmf":{},"phrases":null,"getIVRCommandAfter":null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := command.Command{
		DTMF:    &command.DTMF{FirstTimeout: 10 * time.Second, BetweenTimeout: 5 * time.Second},
		BargeIn: "none",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNumbersAsText(t *testing.T) {
	got, err := command.Parse([]byte(`{"dtmf":{"maxDigits":"4","firstTimeout":" 2.5 ","flush":"true"},"getIVRCommandAfter":"0"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.DTMF.MaxDigits != 4 || got.DTMF.FirstTimeout != 2500*time.Millisecond || !got.DTMF.Flush || *got.After != 0 {
		t.Errorf("got %+v", got.DTMF)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	tests := []struct{ answer, field, reason string }{
		{`[]`, "", "is not a JSON object"},
		{`{"hangup":tru}`, "", "is not valid JSON at byte 14"},
		{`"text"`, "", "is not a JSON object"},
		{`{"hangup":1}`, "hangup", "must be true or false"},
		{`{"recordedCallback":"yes"}`, "recordedCallback", "must be true or false"},
		{`{"bargeIn":"sometimes"}`, "bargeIn", "must be none, current or all"},
		{`{"bargeIn":true}`, "bargeIn", "must be a string"},
		{`{"getIVRCommandAfter":-1}`, "getIVRCommandAfter", "must not be negative"},
		{`{"getIVRCommandAfter":1e9}`, "getIVRCommandAfter", "must not exceed 86400 seconds"},
		{`{"getIVRCommandAfter":{}}`, "getIVRCommandAfter", "must be a number"},
		{`{"dtmf":[]}`, "dtmf", "is not a JSON object"},
		{`{"dtmf":{"flush":0}}`, "dtmf.flush", "must be true or false"},
		{`{"dtmf":{"maxDigits":1.5}}`, "dtmf.maxDigits", "must be a whole number"},
		{`{"dtmf":{"maxDigits":129}}`, "dtmf.maxDigits", "must not exceed 128"},
		{`{"dtmf":{"maxDigits":"NaN"}}`, "dtmf.maxDigits", "must be a number"},
		{`{"dtmf":{"firstTimeout":3601}}`, "dtmf.firstTimeout", "must not exceed 3600 seconds"},
		{`{"dtmf":{"betweenTimeout":"soon"}}`, "dtmf.betweenTimeout", "must be a number"},
		{`{"dtmf":{"terminationKey":"#x"}}`, "dtmf.terminationKey", "may hold 0-9, *, # and A-D only"},
		{`{"dtmf":{"terminationKey":"00000000000000000"}}`, "dtmf.terminationKey", "is longer than 16 bytes"},
		{`{"dtmf":{"encryption":"md5"}}`, "dtmf.encryption", "is not a JSON object"},
		{`{"dtmf":{"encryption":{"type":"sha1"}}}`, "dtmf.encryption.type", "must be md5"},
		{`{"dtmf":{"encryption":{"type":"md5","salt":7}}}`, "dtmf.encryption.salt", "must be a string"},
		{`{"phrases":{}}`, "phrases", "must be an array"},
		{`{"phrases":[` + strings.TrimSuffix(strings.Repeat("{},", 101), ",") + `]}`, "phrases", "has more than 100 phrases"},
		{`{"backgroundPrompt":7}`, "backgroundPrompt", "is not a JSON object"},
		{`{"backgroundPrompt":{"repeatPause":-1}}`, "backgroundPrompt.repeatPause", "must not be negative"},
	}
	for _, tc := range tests {
		_, err := command.Parse([]byte(tc.answer))
		invalid, ok := errors.AsType[*command.Error](err)
		if !ok || invalid.Field != tc.field || invalid.Reason != tc.reason {
			t.Errorf("%.60s: %v, want %s: %s", tc.answer, err, tc.field, tc.reason)
		}
	}
	huge := `{"a":"` + strings.Repeat("x", command.MaxBody) + `"}`
	if _, err := command.Parse([]byte(huge)); err == nil {
		t.Error("a huge answer was taken")
	}
}

// TestPhraseProblems: what is wrong with one phrase leaves the others alone.
func TestPhraseProblems(t *testing.T) {
	tests := []struct{ phrase, problem string }{
		{`7`, "phrase is not a JSON object"},
		{`{}`, "format is missing"},
		{`{"format":"mp5"}`, `format "mp5" is unknown`},
		{`{"format":1}`, "format must be a string"},
		{`{"format":"awstts","awsTTSParameters":{"Text":"x"}}`, "format awstts is not available yet"},
		{`{"format":"googletts"}`, "format googletts is not available yet"},
		{`{"format":"record","fileName":"a.wav"}`, "format record is not available yet"},
		{`{"format":"echo"}`, "format echo is not available yet"},
		{`{"format":"file"}`, "fileName is missing"},
		{`{"format":"file","fileName":".hidden"}`, "fileName must be 1 to 255 letters, digits, dots, dashes and underscores, without a leading dot"},
		{`{"format":"file","fileName":"a/b"}`, "fileName must be 1 to 255 letters, digits, dots, dashes and underscores, without a leading dot"},
		{`{"format":"url"}`, "url is missing"},
		{`{"format":"url","url":"ftp://x/y"}`, "url must begin with http:// or https://"},
		{`{"format":"url","url":"http:///y"}`, "url names no host"},
		{`{"format":"url","fileName":"relative.wav"}`, "url must begin with http:// or https://"},
		{`{"format":"url","url":"http://a b/"}`, "url is malformed"},
		{`{"format":"url","url":"http://x/","cacheTimeToLive":"YEAR"}`, "cacheTimeToLive must be NONE, HOUR, DAY, WEEK or MONTH"},
		{`{"format":"file","fileName":"a.wav","refreshCache":"maybe"}`, "refreshCache must be true or false"},
	}
	for _, tc := range tests {
		cmd, err := command.Parse(fmt.Appendf(nil, `{"phrases":[%s,{"format":"file","fileName":"ok.wav"}]}`, tc.phrase))
		if err != nil {
			t.Errorf("%s: %v", tc.phrase, err)
			continue
		}
		if cmd.Phrases[0].Problem != tc.problem {
			t.Errorf("%s: problem %q, want %q", tc.phrase, cmd.Phrases[0].Problem, tc.problem)
		}
		if cmd.Phrases[1].Problem != "" {
			t.Errorf("%s spoils its neighbour", tc.phrase)
		}
	}
}

func TestBackgroundProblems(t *testing.T) {
	tests := []struct{ background, problem string }{
		{`{"fileName":"a.wav","url":"http://x/"}`, "fileName and url exclude each other"},
		{`{}`, "fileName or url is missing"},
		{`{"url":"x"}`, "url must begin with http:// or https://"},
		{`{"fileName":"a/b"}`, "fileName must be 1 to 255 letters, digits, dots, dashes and underscores, without a leading dot"},
		{`{"stop":true,"fileName":"a/b"}`, ""},
		{`{"url":"http://x/a.wav"}`, ""},
	}
	for _, tc := range tests {
		cmd, err := command.Parse([]byte(`{"backgroundPrompt":` + tc.background + `}`))
		if err != nil {
			t.Errorf("%s: %v", tc.background, err)
		} else if cmd.Background.Problem != tc.problem {
			t.Errorf("%s: problem %q, want %q", tc.background, cmd.Background.Problem, tc.problem)
		}
	}
}

// FuzzParse: whatever an application answers, either the error is ours to show or
// the command is within its bounds.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"hangup":true}`, `{"dtmf":{"maxDigits":1e3,"terminationKey":"#"}}`,
		`{"phrases":[{"format":"file","fileName":"a.wav"},{"format":"url","url":"http://h/a"}]}`,
		`{"getIVRCommandAfter":"0x1p10"}`, `{"backgroundPrompt":{"stop":true}}`, "{\"bargeIn\":\"\xff\"}",
		`{"dtmf":{"encryption":{"type":"md5","salt":"\u0000"}}}`, `{"dtmf":null,"phrases":[null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cmd, err := command.Parse(body)
		if err != nil {
			if _, ok := errors.AsType[*command.Error](err); !ok {
				t.Fatalf("error is %T", err)
			}
			return
		}
		if len(cmd.Phrases) > command.MaxPhrases || cmd.After != nil && (*cmd.After < 0 || *cmd.After > 24*time.Hour) {
			t.Fatalf("out of bounds: %+v", cmd)
		}
		if d := cmd.DTMF; d != nil && (d.MaxDigits < 0 || d.FirstTimeout < 0 || d.BetweenTimeout < 0 || len(d.TerminationKeys) > 16) {
			t.Fatalf("out of bounds: %+v", d)
		}
		for _, p := range cmd.Phrases {
			if p.Problem == "" && p.Format != command.FormatFile && p.Format != command.FormatURL {
				t.Fatalf("phrase %+v would be played", p)
			}
		}
	})
}
