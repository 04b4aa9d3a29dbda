package menu_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/callmesh/callmesh/examples/menu"
	"github.com/callmesh/callmesh/examples/menu/prompts"
)

type answer struct {
	Action  string
	Hangup  bool
	BargeIn string
	Phrases []struct{ Format, FileName string }
	DTMF    *struct {
		Flush                   bool
		MaxDigits, FirstTimeout int
	}
}

func app() http.Handler {
	return menu.New(menu.Options{Log: slog.New(slog.DiscardHandler), Secret: func() int { return 5 }})
}

func post(t *testing.T, h http.Handler, path, body string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// press sends a key, or silence for "", and returns the prompts that follow.
func press(t *testing.T, h http.Handler, key string) string {
	t.Helper()
	body := map[string]any{"sessionId": "s1"}
	switch key {
	case "first":
	case "":
		body["dtmfParams"] = map[string]string{"dtmfMatch": "", "reason": "firstTimeout"}
	default:
		body["dtmfParams"] = map[string]string{"dtmfMatch": key, "reason": "maxDigits"}
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	a := post(t, h, "/getIvrCommand", string(text))
	var played []string
	for _, p := range a.Phrases {
		if p.Format != "file" {
			t.Errorf("format is %q", p.Format)
		}
		played = append(played, strings.TrimSuffix(strings.TrimPrefix(p.FileName, "menu-"), ".wav"))
	}
	if a.Hangup {
		played = append(played, "hangup")
	} else if a.DTMF == nil || a.DTMF.MaxDigits != 1 || a.BargeIn != "all" {
		t.Errorf("no key is collected: %+v", a)
	}
	return strings.Join(played, " ")
}

func TestDialogues(t *testing.T) {
	tests := []struct{ name, keys, want string }{
		{"hours and goodbye", "first,1,9", "welcome options|hours options|goodbye hangup"},
		{"silence", "first,,,", "welcome options|options|options|goodbye hangup"},
		{"silence is forgiven", "first,,,*,,", "welcome options|options|options|options|options|options"},
		{"unknown key and back", "first,7,*", "welcome options|invalid options|options"},
		{"the game", "first,2,3,9,#,5,1", "welcome options|guess|higher|lower|invalid guess|right options|hours options"},
		{"out of the game", "first,2,,*,9", "welcome options|guess|guess|options|goodbye hangup"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := app()
			var got []string
			for key := range strings.SplitSeq(tc.keys, ",") {
				got = append(got, press(t, h, key))
			}
			if text := strings.Join(got, "|"); text != tc.want {
				t.Errorf("played %s\nwant   %s", text, tc.want)
			}
		})
	}
}

func TestOtherCallbacks(t *testing.T) {
	h := app()
	if a := post(t, h, "/newCall", `{"sessionId":"s1","callingParty":"1001","calledParty":"1000"}`); a.Action != "ivr" {
		t.Errorf("newCall is answered %+v", a)
	}
	press(t, h, "first")
	post(t, h, "/sessionCompleted", `{"sessionId":"s1"}`)
	if got := press(t, h, "first"); got != "welcome options" {
		t.Errorf("the call was not forgotten: %s", got)
	}
	post(t, h, "/alarms", `{"type":"ivrCommandError","error":"phraseError"}`)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/newCall", strings.NewReader("nonsense")))
	if w.Code != http.StatusBadRequest {
		t.Errorf("nonsense is answered %d", w.Code)
	}
}

// TestUpload: every prompt that the menu plays is uploaded, as a WAV file, with
// the key.
func TestUpload(t *testing.T) {
	files := map[string][]byte{}
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPut || r.Header.Get("Authorization") != "Bearer k" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files[r.URL.Path] = body
		_, _ = w.Write([]byte(`{"success":true}`))
	}))
	defer platform.Close()
	if err := menu.Upload(t.Context(), menu.Platform{URL: platform.URL + "/", Key: "k", Domain: "d.test"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"welcome", "options", "hours", "guess", "higher", "lower", "right", "invalid", "goodbye"} {
		wav := files["/mediaservice/d.test/promptfile/"+menu.FileName(name)]
		if !bytes.HasPrefix(wav, []byte("RIFF")) || !bytes.Contains(wav[:min(64, len(wav))], []byte("WAVE")) {
			t.Errorf("%s was not uploaded as WAV", name)
		}
	}
	err := menu.Upload(t.Context(), menu.Platform{URL: platform.URL, Key: "wrong", Domain: "d.test"})
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong key: %v", err)
	}
}

func TestMelodyLasts(t *testing.T) {
	// 44 bytes of header, 180 ms a note at 8000 Hz and 2 bytes a sample.
	if got, want := len(prompts.Melody([]float64{440, 0, 880})), 44+3*2880; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}
