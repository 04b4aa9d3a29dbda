package phone

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast keeps retransmissions short; the loopback needs no half second.
const fast = 50 * time.Millisecond

func newPhone(t *testing.T, cfg Config) *Phone {
	t.Helper()
	if cfg.T1 == 0 {
		cfg.T1 = fast
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noViolations(t *testing.T, phones ...*Phone) {
	t.Helper()
	for _, p := range phones {
		for _, v := range p.Violations() {
			t.Error(v)
		}
	}
}

// connect makes a call from caller to callee and returns both ends.
func connect(t *testing.T, caller, callee *Phone, options Options) (*Call, *Call) {
	t.Helper()
	ctx := within(t, 5*time.Second)
	out, err := caller.Dial(callee.URI(), options)
	must(t, err)
	in, err := callee.Accept(ctx)
	must(t, err)
	in.Ring()
	must(t, out.Provisional(ctx, 180))
	answered := make(chan error, 1)
	go func() { answered <- in.Answer(ctx) }()
	must(t, out.Answered(ctx))
	if options.KeepACK {
		out.ACK()
	}
	must(t, <-answered)
	return out, in
}

func TestCall(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		for name, options := range map[string]Options{"early offer": {}, "late offer": {LateOffer: true}} {
			t.Run(transport+" "+name, func(t *testing.T) {
				t.Parallel()
				alice := newPhone(t, Config{Transport: transport, User: "alice"})
				bob := newPhone(t, Config{Transport: transport, User: "bob", Codecs: []Codec{PCMA}})
				out, in := connect(t, alice, bob, options)
				ctx := within(t, 10*time.Second)
				out.Audio.Say(440)
				in.Audio.Say(880)
				must(t, in.Audio.Hear(ctx, 440))
				must(t, out.Audio.Hear(ctx, 880))
				in.Audio.Say(1200)
				must(t, out.Audio.Hear(ctx, 1200))
				if codec := out.Audio.Codec(); codec != "PCMA" {
					t.Errorf("codec %s, though bob has only PCMA", codec)
				}
				_, err := out.Audio.Press(ctx, "19*#")
				must(t, err)
				if keys := in.Audio.Keys(); keys != "19*#" {
					t.Errorf("bob got keys %q", keys)
				}
				must(t, out.Hold(ctx))
				must(t, out.Resume(ctx))
				if status, err := in.Info(ctx, '5'); err != nil || status != 200 {
					t.Errorf("INFO: %d %v", status, err)
				}
				must(t, in.Hangup(ctx))
				if _, err := out.Ended(ctx); err != nil {
					t.Error(err)
				}
				if s := in.Audio.Statistics(); s.Lost != 0 || s.Duplicates != 0 || s.Sources != 1 {
					t.Errorf("on a perfect network: %+v", s)
				}
				noViolations(t, alice, bob)
			})
		}
	}
}

func TestRejectAndCancel(t *testing.T) {
	t.Parallel()
	alice, bob := newPhone(t, Config{}), newPhone(t, Config{})
	ctx := within(t, 5*time.Second)

	out, err := alice.Dial(bob.URI(), Options{})
	must(t, err)
	in, err := bob.Accept(ctx)
	must(t, err)
	in.Reject(486, "Busy Here")
	if status, err := out.Final(ctx); status != 486 {
		t.Errorf("rejected call: %d %v", status, err)
	}

	out, err = alice.Dial(bob.URI(), Options{})
	must(t, err)
	in, err = bob.Accept(ctx)
	must(t, err)
	in.Ring()
	if status, err := out.Cancel(ctx); status != 487 {
		t.Errorf("cancelled call: %d %v", status, err)
	}
	must(t, in.Cancelled(ctx))
	noViolations(t, alice, bob)
}

// Every second message of both sides is lost, ACK and 200 among them.
func TestCallSurvivesLostMessages(t *testing.T) {
	t.Parallel()
	everyOther := func() func(*Message) Fate {
		var n atomic.Int32
		return func(*Message) Fate {
			if n.Add(1)%2 == 1 {
				return Drop
			}
			return Deliver
		}
	}
	alice, bob := newPhone(t, Config{Fate: everyOther()}), newPhone(t, Config{Fate: everyOther()})
	out, in := connectQuietly(t, alice, bob)
	must(t, out.Hangup(within(t, 10*time.Second)))
	if _, err := in.Ended(within(t, time.Second)); err != nil {
		t.Error(err)
	}
	noViolations(t, alice, bob)
}

func TestRepeatedMessagesChangeNothing(t *testing.T) {
	t.Parallel()
	twice := func(*Message) Fate { return Twice }
	alice, bob := newPhone(t, Config{Fate: twice}), newPhone(t, Config{Fate: twice})
	out, in := connectQuietly(t, alice, bob)
	must(t, in.Hangup(within(t, 5*time.Second)))
	if _, err := out.Ended(within(t, time.Second)); err != nil {
		t.Error(err)
	}
	select {
	case <-bob.incoming:
		t.Error("a repeated INVITE became a second call")
	default:
	}
	noViolations(t, alice, bob)
}

// connectQuietly is connect without the 180, which nobody repeats when lost.
func connectQuietly(t *testing.T, caller, callee *Phone) (*Call, *Call) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	out, err := caller.Dial(callee.URI(), Options{})
	must(t, err)
	in, err := callee.Accept(ctx)
	must(t, err)
	must(t, in.Answer(ctx))
	must(t, out.Answered(ctx))
	return out, in
}

func TestKeptACKMakesTheAnswerComeAgain(t *testing.T) {
	t.Parallel()
	answers := make(chan struct{}, 100)
	alice := newPhone(t, Config{Lose: func(m *Message) bool {
		if _, method := m.CSeq(); m.Status == 200 && method == "INVITE" {
			answers <- struct{}{}
		}
		return false
	}})
	bob := newPhone(t, Config{})
	ctx := within(t, 5*time.Second)
	out, err := alice.Dial(bob.URI(), Options{KeepACK: true})
	must(t, err)
	in, err := bob.Accept(ctx)
	must(t, err)
	answered := make(chan error, 1)
	go func() { answered <- in.Answer(ctx) }()
	must(t, out.Answered(ctx))
	for n := range 3 {
		select {
		case <-answers:
		case <-ctx.Done():
			t.Fatalf("only %d answers", n)
		}
	}
	out.ACK()
	must(t, <-answered)
}

func TestDigitsThroughLoss(t *testing.T) {
	t.Parallel()
	alice, bob := newPhone(t, Config{}), newPhone(t, Config{})
	out, in := connect(t, alice, bob, Options{})
	out.Audio.Impair(Impairment{Loss: 0.2, Duplicate: 0.1, Reorder: 0.1, Seed: 7})
	ctx := within(t, 10*time.Second)
	_, err := out.Audio.Press(ctx, "0123456789")
	must(t, err)
	if keys := in.Audio.Keys(); keys != "0123456789" {
		t.Errorf("keys %q", keys)
	}
	s := in.Audio.Statistics()
	if s.Lost == 0 || s.Duplicates == 0 || s.Late == 0 {
		t.Errorf("the impairment did nothing: %+v", s)
	}
}

func TestSilent(t *testing.T) {
	t.Parallel()
	alice, bob := newPhone(t, Config{}), newPhone(t, Config{})
	out, in := connect(t, alice, bob, Options{})
	out.Audio.Say(440)
	must(t, in.Audio.Hear(within(t, 5*time.Second), 440))
	if err := in.Audio.Silent(within(t, 500*time.Millisecond), 200*time.Millisecond); err == nil {
		t.Error("a tone counts as silence")
	}
	out.Audio.Listen()
	must(t, in.Audio.Silent(within(t, 5*time.Second), 200*time.Millisecond))
}

func TestStrictParsing(t *testing.T) {
	t.Parallel()
	head := "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
	for name, text := range map[string]string{
		"no empty line":    "SIP/2.0 200 OK\r\n",
		"bad status":       "SIP/2.0 99 Low\r\n\r\n",
		"bad request line": "INVITE sip:a@h\r\n\r\n",
		"space in name":    head + "X Y: z\r\n\r\n",
		"missing CSeq":     "SIP/2.0 200 OK\r\nVia: v\r\nFrom: f\r\nTo: t\r\nCall-ID: 1\r\n\r\n",
		"short body":       head + "Content-Length: 5\r\n\r\nabc",
	} {
		if _, err := ParseMessage([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	m, err := ParseMessage([]byte(head + "l: 3\r\nm: <sip:b@h>, \"x, y\" <sip:c@h>\r\nSubject: a\r\n b\r\n\r\nabc"))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Values("Contact"); len(got) != 2 || m.Get("Subject") != "a b" {
		t.Errorf("contacts %q, subject %q", got, m.Get("Subject"))
	}
}
