package scenario

import (
	"crypto/md5"
	"encoding/hex"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

func digits() []scenario {
	return []scenario{
		{name: "digits-termination", play: func(s *stage) {
			collect(s, sink.Object{"maxDigits": 10, "terminationKey": "#*"}, "12*", sink.Object{
				"dtmfMatch": "12", "reason": "terminationKey", "matchedTerminationKey": "*",
			})
		}},
		{name: "digits-max", play: func(s *stage) {
			collect(s, sink.Object{"maxDigits": 4}, "1234", sink.Object{"dtmfMatch": "1234", "reason": "maxDigits"})
		}},
		{name: "digits-between", play: func(s *stage) {
			collect(s, sink.Object{"betweenTimeout": 1}, "73", sink.Object{"dtmfMatch": "73", "reason": "betweenTimeout"})
		}},
		{name: "digits-first", play: func(s *stage) {
			collect(s, sink.Object{"firstTimeout": 1}, "", sink.Object{"dtmfMatch": "", "reason": "firstTimeout"})
		}},
		{name: "digits-encrypted", play: func(s *stage) {
			sum := md5.Sum([]byte("salt" + "42"))
			collect(s, sink.Object{"maxDigits": 2, "encryption": sink.Object{"type": "md5", "salt": "salt"}}, "42",
				sink.Object{"dtmfMatch": hex.EncodeToString(sum[:]), "reason": "maxDigits"})
		}},
		{name: "digits-through-loss", play: digitsThroughLoss},
		{name: "digits-by-info", play: digitsByInfo},
		{name: "digits-ahead", play: digitsAhead},
		{name: "digits-flushed", play: digitsFlushed},
	}
}

// collect asks for digits, presses keys and checks what the application gets.
func collect(s *stage, dtmf sink.Object, keys string, want sink.Object) {
	s.commands(ask(dtmf, s.prompt("ask.wav", low, 300*time.Millisecond)), bye())
	l := s.call()
	l.hears(low)
	if keys != "" {
		l.press(keys)
	}
	params := s.command(2).Object("dtmfParams")
	for field, value := range want {
		if params[field] != value {
			s.Errorf("dtmfParams: %v, want %v", params, want)
		}
	}
	l.ends()
}

func digitsThroughLoss(s *stage) {
	s.commands(ask(sink.Object{"maxDigits": 16}, s.prompt("ask.wav", low, 300*time.Millisecond)), bye())
	l := s.call()
	l.hears(low)
	l.Audio.Impair(phone.Impairment{Loss: 0.2, Duplicate: 0.1, Reorder: 0.1, Seed: 20})
	l.press("1122334455*#6780")
	if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "1122334455*#6780" {
		s.Errorf("dtmfParams: %v", params)
	}
	l.ends()
}

func digitsByInfo(s *stage) {
	s.commands(ask(sink.Object{"maxDigits": 3}, s.prompt("ask.wav", low, 300*time.Millisecond)), bye())
	l := s.call()
	l.hears(low)
	for _, digit := range "8*0" {
		if status, err := l.Info(s.within(patience), digit); status != 200 || err != nil {
			s.Fatalf("INFO: %d %v", status, err)
		}
	}
	if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "8*0" {
		s.Errorf("dtmfParams: %v", params)
	}
	l.ends()
}

// digitsAhead types while nothing is collected: the digits wait in the buffer
// and count first when collection begins.
func digitsAhead(s *stage) {
	s.commands(
		say(s.prompt("welcome.wav", low, 1500*time.Millisecond)),
		ask(sink.Object{"maxDigits": 2}, s.prompt("ask.wav", middle, 300*time.Millisecond)),
		bye(),
	)
	l := s.call()
	l.hears(low)
	l.press("9")
	if got := s.command(2).Text("dtmfBuffer"); got != "9" {
		s.Errorf("dtmfBuffer %q, want 9", got)
	}
	l.hears(middle)
	l.press("1")
	if params := s.command(3).Object("dtmfParams"); params["dtmfMatch"] != "91" {
		s.Errorf("dtmfParams: %v", params)
	}
	l.ends()
}

func digitsFlushed(s *stage) {
	s.commands(
		say(s.prompt("welcome.wav", low, 1500*time.Millisecond)),
		ask(sink.Object{"maxDigits": 1, "flush": true}, s.prompt("ask.wav", middle, 300*time.Millisecond)),
		bye(),
	)
	l := s.call()
	l.hears(low)
	l.press("9")
	l.hears(middle)
	l.press("1")
	if params := s.command(3).Object("dtmfParams"); params["dtmfMatch"] != "1" {
		s.Errorf("dtmfParams after a flush: %v", params)
	}
	l.ends()
}
