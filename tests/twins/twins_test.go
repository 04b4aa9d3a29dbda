// Package twins holds two sessionds on one Redis to their promise: whatever
// reaches the one that does not own a session works all the same.
package twins

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/allinone"
	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/mediad"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/recordingd"
	"github.com/callmesh/callmesh/sessiond"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

const domain = "demo.callmesh.test"

// twins are two sessionds with one media server, one ivrd and one Redis.
type twins struct {
	app *sink.Sink
	// first and second are the SIP addresses; firstRPC and secondRPC the
	// addresses of their gRPC.
	first, second       string
	sixth               string // the first one's over IPv6
	firstRPC, secondRPC string
	dialer              *grpckit.Dialer
	redis               *redis.Client
}

func start(t *testing.T) *twins {
	t.Helper()
	app, err := sink.Start()
	if err != nil {
		t.Fatal(err)
	}
	tw := &twins{app: app, firstRPC: "memory:sessiond#first", secondRPC: "memory:sessiond#second"}
	rdb := redistest.Start(t).Client()
	tw.redis = rdb
	signer, err := principal.NewSigner([]byte(strings.Repeat("s", 32)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	memory := &mesh.Memory{}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	env := func(service, instance string, m mesh.Mesh) daemon.Env {
		return daemon.Env{
			Service: service, Instance: instance, Mesh: m, Signer: signer, Log: log.With("instance", instance),
			Metrics: prometheus.NewRegistry(), Redis: rdb, Now: time.Now,
		}
	}
	media := mediad.Defaults()
	media.Ports, media.Listen6 = "40000-40199", "::1"
	recording := recordingd.Defaults()
	recording.Blob.URL = "file:" + t.TempDir()
	archive := "sqlite:" + t.TempDir() + "/archive.db"
	calls := func(bound, sixth *string) sessiond.Config {
		c := sessiond.Defaults()
		c.SIP.Listen = []string{"udp:127.0.0.1:0", "udp:[::1]:0"}
		c.SIP.Bound = func(_, at string) {
			if strings.HasPrefix(at, "[") {
				*sixth = at
			} else {
				*bound = at
			}
		}
		c.Journal.Dir = t.TempDir()
		c.Archive.URL, c.Secret = archive, strings.Repeat("k", 32)
		c.Domains = []sessiond.Domain{allinone.Demo(app.URL())}
		return c
	}
	var parts []run.Part
	add := func(more []run.Part, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, more...)
	}
	add(recordingd.Parts(recording, env("recordingd", "recordingd-1", memory)))
	add(mediad.Parts(media, env("mediad", "mediad-1", memory)))
	add(ivrd.Parts(ivrd.Defaults(), env("ivrd", "ivrd-1", memory)))
	add(sessiond.Parts(calls(&tw.first, &tw.sixth), env("sessiond", "first", memory.Named("first"))))
	add(sessiond.Parts(calls(&tw.second, new(string)), env("sessiond", "second", memory.Named("second"))))

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- run.All(ctx, log, 5*time.Second, func() { close(ready) }, parts...) }()
	tw.dialer = grpckit.NewDialer(memory, signer, "gateway")
	t.Cleanup(func() {
		if err := tw.dialer.Close(context.Background()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return tw
}

// waitForKey keeps the caller in a dialogue that collects digits.
func waitForKey() sink.Answer {
	return sink.JSON(sink.Object{"dtmf": sink.Object{"maxDigits": 1, "firstTimeout": 30}})
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// call dials the first sessiond and returns once its dialogue has asked.
func (tw *twins) call(t *testing.T) (*phone.Call, *sink.Callback) {
	t.Helper()
	tw.app.Script("newCall", sink.IVR())
	tw.app.Script("getIvrCommand", waitForKey())
	c := tw.dial(t)
	if err := c.Answered(within(t)); err != nil {
		t.Fatal(err)
	}
	asked, err := tw.app.Await(within(t), 1, sink.Of("getIvrCommand"))
	if err != nil {
		t.Fatal(err)
	}
	return c, asked
}

func (tw *twins) dial(t *testing.T) *phone.Call {
	t.Helper()
	return tw.dialWith(t, phone.Options{})
}

func (tw *twins) dialWith(t *testing.T, o phone.Options) *phone.Call {
	t.Helper()
	p, err := phone.New(phone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := p.Dial("sip:1000@"+tw.first, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (tw *twins) completed(t *testing.T, reason string) {
	t.Helper()
	done, err := tw.app.Await(within(t), 1, sink.Of("sessionCompleted"))
	if err != nil {
		t.Fatal(err)
	}
	if got := done.Text("reason"); got != reason {
		t.Errorf("completed by %q, want %q", got, reason)
	}
}

func TestInDialogRequestsAtTheWrongInstance(t *testing.T) {
	tw := start(t)
	c, _ := tw.call(t)
	c.SendTo(tw.second)
	for name, request := range map[string]func() (int, error){
		"INFO":      func() (int, error) { return c.Info(within(t), 'A') },
		"re-INVITE": func() (int, error) { return c.Refresh(within(t)) },
		"OPTIONS":   func() (int, error) { m, err := c.Request(within(t), "OPTIONS", "", nil); return status(m), err },
		"unknown": func() (int, error) {
			m, err := c.Request(within(t), "MESSAGE", "text/plain", []byte("x"))
			return status(m), err
		},
	} {
		want := 200
		if name == "unknown" {
			want = 405
		}
		if got, err := request(); err != nil || got != want {
			t.Errorf("%s at the other instance: %d, %v", name, got, err)
		}
	}
	if err := c.Hangup(within(t)); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "callingPartyDrop")
}

func status(m *phone.Message) int {
	if m == nil {
		return 0
	}
	return m.Status
}

func TestACancelAtTheWrongInstance(t *testing.T) {
	tw := start(t)
	tw.app.Script("newCall", tw.app.Slow(10*time.Second, sink.IVR()))
	c := tw.dial(t)
	if _, err := tw.app.Await(within(t), 1, sink.Of("newCall")); err != nil {
		t.Fatal(err)
	}
	c.SendTo(tw.second)
	if got, err := c.Cancel(within(t)); err != nil || got != 487 {
		t.Errorf("cancelled with %d, %v", got, err)
	}
	tw.completed(t, "callingPartyDrop")
}

func TestCommandsAtTheWrongInstance(t *testing.T) {
	tw := start(t)
	c, asked := tw.call(t)
	conn, err := tw.dialer.Instance(tw.secondRPC)
	if err != nil {
		t.Fatal(err)
	}
	customer := principal.As(within(t), principal.Principal{Subject: "demo", Domains: []string{domain}, Roles: []string{"domain"}})
	calls := mediaservicepb.NewCallsClient(conn)
	if _, err := calls.InterruptIvrCommand(customer, &mediaservicepb.InterruptIvrCommandRequest{
		Domain: domain, ReplyId: asked.Text("replyId"), SessionId: asked.Session(),
	}); err != nil {
		t.Errorf("interrupt: %v", err)
	}
	again, err := tw.app.Await(within(t), 2, sink.Of("getIvrCommand"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := calls.HangUpCall(customer, &mediaservicepb.HangUpCallRequest{Domain: domain, ReplyId: again.Text("replyId")}); err != nil {
		t.Errorf("hang up: %v", err)
	}
	if _, err := c.Ended(within(t)); err != nil {
		t.Errorf("no BYE: %v", err)
	}
	tw.completed(t, "hangup")
	_, err = calls.HangUpCall(customer, &mediaservicepb.HangUpCallRequest{Domain: domain, ReplyId: again.Text("replyId")})
	if fault.ReasonOf(err) != fault.CallEnded {
		t.Errorf("hanging up twice: %v", err)
	}
}

func TestASessionIsReadAtEitherInstance(t *testing.T) {
	tw := start(t)
	c, asked := tw.call(t)
	for _, at := range []string{tw.firstRPC, tw.secondRPC} {
		conn, err := tw.dialer.Instance(at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sessionpb.NewSessionsClient(conn).GetSession(within(t), &sessionpb.GetSessionRequest{Domain: domain, SessionId: asked.Session()})
		if err != nil || got.GetSession().GetState() != sessionpb.Session_STATE_CONNECTED {
			t.Errorf("%s: %v, %v", at, got, err)
		}
		_, err = sessionpb.NewSessionsClient(conn).GetSession(within(t), &sessionpb.GetSessionRequest{Domain: "other.test", SessionId: asked.Session()})
		if fault.ReasonOf(err) != fault.SessionNotFound {
			t.Errorf("another domain's session: %v", err)
		}
	}
	if err := c.Hangup(within(t)); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "callingPartyDrop")
}
