package scenario

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/tests/deployment"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// alone starts a deployment for one scenario that would disturb others.
func alone(t *testing.T, start func(deployment.Config) (deployment.Deployment, error)) *stage {
	t.Helper()
	c := found(t, []scenario{{name: "alone"}, {name: "neighbour"}}, start)
	return &stage{T: t, Deployment: c, app: c.apps[0], domain: c.domains[0], neighbour: c.domains[1]}
}

// TestRedisGone: without Redis live calls go on and new ones get 503; once it
// is back, so is everything, and no session is lost.
func TestRedisGone(t *testing.T) {
	redis := redistest.Start(t, "--appendonly", "yes")
	s := alone(t, func(cfg deployment.Config) (deployment.Deployment, error) {
		cfg.Redis = redis.URL()
		return deployment.AllInOne(t.Context(), cfg)
	})
	s.commands(
		ask(sink.Object{"maxDigits": 1, "firstTimeout": 60}, s.prompt("menu.wav", low, 8*time.Second)),
		say(s.prompt("choice.wav", middle, 60*time.Second)),
	)
	h := s.phone(phone.Config{})
	live := h.dial(phone.Options{})
	live.answered()
	live.hears(low)
	redis.Kill()

	live.hears(low)
	refused := h.dial(phone.Options{})
	final, err := refused.FinalMessage(s.within(2 * patience))
	s.must(err)
	if final.Status != 503 || final.Get("Retry-After") == "" {
		s.Errorf("a new call without Redis: %d, Retry-After %q", final.Status, final.Get("Retry-After"))
	}
	live.press("1")
	if params := s.command(2).Object("dtmfParams"); params["dtmfMatch"] != "1" {
		s.Errorf("digits without Redis: %v", params)
	}
	live.hears(middle)

	redis.Restart()
	s.eventually("new calls after Redis is back", func() bool {
		l := h.dial(phone.Options{})
		status, err := l.Final(s.within(patience))
		s.must(err)
		if status == 200 {
			l.hangsUp()
		}
		return status == 200
	}, func() string { return "503" })
	live.hangsUp()
	done, err := s.app.Await(s.within(2*patience), 1, sink.Of("sessionCompleted").In(s.nth(1, "newCall").Session()))
	s.must(err)
	if done.Text("reason") != "callingPartyDrop" {
		s.Errorf("reason %q", done.Text("reason"))
	}
	s.settle()
}

// TestThousandCalls: after a thousand calls nothing is left of them: no
// goroutine, no file, no port. The range has 300 pairs, so leaked ones would
// run out.
func TestThousandCalls(t *testing.T) {
	s := alone(t, func(cfg deployment.Config) (deployment.Deployment, error) {
		cfg.MediaPorts, cfg.Quarantine = "29000-29599", 100*time.Millisecond
		return deployment.AllInOne(t.Context(), cfg)
	})
	s.commands(bye(s.prompt("short.wav", low, 100*time.Millisecond)))
	s.calls(100, 20) // fills the pools of connections
	s.settled(100)
	before := census()
	s.calls(1000, 20)
	s.settled(1100)
	// Transactions linger for 32 s (RFC 3261 timers J and H).
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var now count
	// Pools of idle connections may still have grown by some; what leaks with a
	// call would be there a thousand times.
	for now = census(); now.goroutines > before.goroutines+150 || now.files > before.files+75; now = census() {
		if time.Now().After(deadline) {
			var stacks bytes.Buffer
			_ = dump(&stacks)
			t.Fatalf("before %+v, after a thousand calls %+v\n%s", before, now, &stacks)
		}
		<-tick.C
	}
	t.Logf("before %+v, after %+v", before, now)
}

// calls makes n calls, at most so many at a time, and fails on each that does
// not play and end as it should.
func (s *stage) calls(n, atOnce int) {
	s.Helper()
	h := s.phone(phone.Config{})
	var wg sync.WaitGroup
	var failed atomic.Int32
	slots := make(chan struct{}, atOnce)
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := oneCall(s.Context(), h); err != nil && failed.Add(1) < 10 {
				s.Error(err)
			}
		})
	}
	wg.Wait()
}

func oneCall(ctx context.Context, h *handset) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	c, err := h.Dial("sip:"+h.stage.number()+"@"+h.stage.domain.Name, phone.Options{Proxy: h.at})
	if err != nil {
		return err
	}
	defer c.Release()
	if err := c.Answered(ctx); err != nil {
		return err
	}
	_, err = c.Ended(ctx)
	return err
}

// settled waits until so many sessions have completed, each once.
func (s *stage) settled(n int) {
	s.Helper()
	if _, err := s.app.Await(s.within(4*patience), n, sink.Of("sessionCompleted")); err != nil {
		s.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, c := range s.app.All(sink.Of("sessionCompleted")) {
		if seen[c.Session()] {
			s.Errorf("session %s completed twice", c.Session())
		}
		seen[c.Session()] = true
	}
}

type count struct{ goroutines, files int }

func census() count {
	runtime.GC()
	files, _ := os.ReadDir("/proc/self/fd") // absent elsewhere than on Linux: 0 then
	return count{runtime.NumGoroutine(), len(files)}
}

func dump(w *bytes.Buffer) error {
	buf := make([]byte, 1<<20)
	_, err := w.Write(buf[:runtime.Stack(buf, true)])
	return err
}

// fleet starts the five processes for one scenario.
func fleet(t *testing.T) (*stage, *deployment.Processes, deployment.Config) {
	t.Helper()
	var p *deployment.Processes
	var config deployment.Config
	s := alone(t, func(cfg deployment.Config) (deployment.Deployment, error) {
		var err error
		config = cfg
		p, err = processes(t, cfg)
		return p, err
	})
	return s, p, config
}

// TestKilledDialogue: an ivrd dies by kill -9 while a caller is in a menu;
// another takes the dialogue up where it was.
func TestKilledDialogue(t *testing.T) {
	s, p, _ := fleet(t)
	s.commands(
		ask(sink.Object{"maxDigits": 1, "firstTimeout": 60}, s.prompt("menu.wav", low, 500*time.Millisecond)),
		bye(s.prompt("choice.wav", middle, 500*time.Millisecond)),
	)
	l := s.call()
	l.hears(low)
	s.must(p.Kill("ivrd"))
	s.must(p.Start(s.within(2*patience), "ivrd"))
	l.press("4")
	second, err := s.app.Await(s.within(4*patience), 2, sink.Of("getIvrCommand"))
	s.must(err)
	if params := second.Object("dtmfParams"); params["dtmfMatch"] != "4" {
		s.Errorf("dtmfParams: %v", params)
	}
	l.hears(middle)
	l.ends()
	s.completed("hangup")
	s.settle()
}

// TestKilledSessiond: the owner of a session dies by kill -9; the session is
// accounted for all the same, once.
func TestKilledSessiond(t *testing.T) {
	s, p, _ := fleet(t)
	s.commands(say(s.prompt("long.wav", low, 60*time.Second)))
	l := s.call()
	l.hears(low)
	s.must(p.Kill("sessiond"))
	s.must(p.Start(s.within(2*patience), "sessiond"))
	if _, err := s.app.Await(s.within(6*patience), 1, sink.Of("sessionCompleted")); err != nil {
		s.Fatal(err)
	}
	s.settle()
	next := s.call() // and the fresh one takes calls
	next.hears(low)
	next.hangsUp()
}

// TestTwoSessionds: two instances share one Redis; requests and commands that
// reach the wrong one are forwarded and work.
func TestTwoSessionds(t *testing.T) {
	s, p, cfg := fleet(t)
	second, err := p.AddSessiond(s.within(2*patience), cfg)
	s.must(err)
	s.commands(say(s.prompt("long.wav", low, 60*time.Second)))

	l := s.call()
	l.hears(low)
	l.SendTo(second)
	if status, err := l.Refresh(s.within(patience)); status != 200 || err != nil {
		s.Errorf("re-INVITE at the other instance: %d %v", status, err)
	}
	if status, err := l.Info(s.within(patience), '1'); status != 200 || err != nil {
		s.Errorf("INFO at the other instance: %d %v", status, err)
	}
	l.hangsUp()
	s.completed("callingPartyDrop")

	h := s.phone(phone.Config{})
	h.at = second
	other := h.dial(phone.Options{})
	other.answered()
	other.hears(low)
	c, err := s.app.Await(s.within(patience), 2, sink.Of("getIvrCommand"))
	s.must(err)
	if live := s.session(c.Session()); live["status"] != "connected" {
		s.Errorf("session of the other instance: %v", live)
	}
	if !s.post("hangupcall", sink.Object{"replyId": c.Text("replyId")}) {
		s.Error("hangupcall of a session of the other instance refused")
	}
	other.ends()
	s.settle()
}

// TestBadConfiguration: a daemon that cannot start says what is wrong.
func TestBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	bin, err := daemons()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	ports, err := deployment.Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(t).URL()
	base := fmt.Sprintf("mesh: { listen: \"127.0.0.1:%d\", secret: \"the mesh secret of a deployment for tests\", targets: { mediad: \"passthrough:///127.0.0.1:1\", ivrd: \"passthrough:///127.0.0.1:1\", sessiond: \"passthrough:///127.0.0.1:1\" } }\n"+
		"redis: { url: %q }\narchive: { url: \"sqlite:%s/archive.db\" }\nsecret: \"the secret of a deployment for tests\"\n", ports[0], redis, dir)
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"unknown key":  {base + "sip:\n  lissten: [\"udp:127.0.0.1:0\"]\n", []string{"line 6", "lissten"}},
		"port in use":  {base + fmt.Sprintf("sip: { listen: [\"udp:%s\"] }\n", taken.LocalAddr()), []string{taken.LocalAddr().String()}},
		"short secret": {strings.Replace(base, "secret: \"the secret of", "secret: \"x\" # ", 1) + "sip: { listen: [\"udp:127.0.0.1:0\"] }\n", []string{"secret"}},
		"bad domain":   {base + "sip: { listen: [\"udp:127.0.0.1:0\"] }\ndomains: [{ name: nodot }]\n", []string{"domains[0].name", "nodot"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".yaml")
			if err := os.WriteFile(path, []byte(tc.config), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			var stderr bytes.Buffer
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "sessiond"), "-config", path)
			cmd.Dir, cmd.Stderr = dir, &stderr
			if err := cmd.Run(); err == nil || ctx.Err() != nil {
				t.Fatalf("it started: %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(stderr.String(), w) {
					t.Errorf("said %q, not %q", stderr.String(), w)
				}
			}
		})
	}
}
