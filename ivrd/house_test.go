package ivrd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/run"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain       = "demo.callmesh.test"
	mediaAddress = "memory:mediad#m1"
	secret       = "a secret of at least thirty-two bytes"
)

// house is the mesh around ivrd: the other daemons as the test plays them.
type house struct {
	t          testing.TB
	mesh       *mesh.Memory
	signer     *principal.Signer
	log        *slog.Logger
	logs       *logs
	rdb        redis.UniversalClient
	mediad     *mediad
	sessiond   *sessiond
	recordingd *recordingd
	asSessiond *grpckit.Dialer
	// grace is short: most tests leave dialogues behind.
	grace time.Duration
}

func newHouse(t testing.TB, rdb redis.UniversalClient) *house {
	t.Helper()
	signer, err := principal.NewSigner([]byte(secret), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		t: t, mesh: &mesh.Memory{}, signer: signer, rdb: rdb, logs: &logs{}, grace: 100 * time.Millisecond,
		mediad: newMediad(), sessiond: newSessiond(), recordingd: newRecordingd(),
	}
	h.log = slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("log:\n" + h.logs.String())
		}
	})
	h.serve("mediad", h.mesh.Named("m1"), h.mediad.register)
	h.serve("sessiond", h.mesh, h.sessiond.register)
	h.serve("recordingd", h.mesh, h.recordingd.register)
	h.asSessiond = grpckit.NewDialer(h.mesh, signer, "sessiond")
	t.Cleanup(func() { _ = h.asSessiond.Close(context.Background()) })
	return h
}

func (h *house) serve(service string, m mesh.Mesh, register func(*grpckit.Server)) *grpckit.Server {
	h.t.Helper()
	s := grpckit.NewServer(grpckit.Options{Service: service, Mesh: m, Signer: h.signer, Log: h.log})
	register(s)
	h.run(s.Part())
	return s
}

// run starts parts and stops them with the test, or when the function that it
// returns is called.
func (h *house) run(parts ...run.Part) (stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- run.All(ctx, h.log, h.grace, func() { close(ready) }, parts...) }()
	select {
	case <-ready:
	case err := <-done:
		h.t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				h.t.Error(err)
			}
		})
	}
	h.t.Cleanup(stop)
	return stop
}

func testConfig() ivrd.Config {
	cfg := ivrd.Defaults()
	cfg.Timeouts.Patience = 2 * time.Second
	cfg.Audio.Fresh = 0
	cfg.Takeover.Heartbeat, cfg.Takeover.Expiry, cfg.Takeover.Sweep = 100*time.Millisecond, 400*time.Millisecond, 100*time.Millisecond
	return cfg
}

// instance is one ivrd.
type instance struct {
	client ivrpb.DialoguesClient
	stop   func()
	line   *line
}

// ivrd starts an instance, known to peers as memory:ivrd#name.
func (h *house) ivrd(name string, change ...func(*ivrd.Config)) *instance {
	h.t.Helper()
	cfg := testConfig()
	for _, c := range change {
		c(&cfg)
	}
	line := &line{Mesh: h.mesh.Named(name)}
	parts, err := ivrd.Parts(cfg, daemon.Env{
		Service: "ivrd", Instance: name, Mesh: line, Signer: h.signer, Log: h.log.With("instance", name),
		Metrics: prometheus.NewRegistry(), Redis: h.redisBy(line), Now: time.Now,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	stop := h.run(parts...)
	conn, err := h.asSessiond.Instance("memory:ivrd#" + name)
	if err != nil {
		h.t.Fatal(err)
	}
	return &instance{client: ivrpb.NewDialoguesClient(conn), stop: stop, line: line}
}

// call is a participant whose dialogue runs.
type call struct {
	session, participant, leg string
	grant                     uint64
}

func (h *house) call() call {
	p := partition.Random()
	c := call{session: partition.NewID(p).String(), participant: partition.NewID(p).String(), leg: uuid.NewString(), grant: 3}
	h.mediad.create(c.leg, c.grant)
	return c
}

func (c call) start() *ivrpb.StartRequest {
	return &ivrpb.StartRequest{
		SessionId: c.session, ParticipantId: c.participant, Domain: domain, LegId: c.leg, MediaAddress: mediaAddress, Grant: c.grant,
	}
}

// begin starts a dialogue for a fresh call.
func (h *house) begin(at *instance) call {
	h.t.Helper()
	c := h.call()
	if _, err := at.client.Start(h.t.Context(), c.start()); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) stop(at *instance, c call) {
	h.t.Helper()
	if _, err := at.client.Stop(h.t.Context(), &ivrpb.StopRequest{SessionId: c.session, ParticipantId: c.participant}); err != nil {
		h.t.Error(err)
	}
}

// line is an instance's way to the rest of the world. Cutting it is what a kill
// -9 looks like from outside: nothing is said or written any more.
type line struct {
	mesh.Mesh
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	// stall holds up the store's command of that name until the channel closes.
	stall map[string]chan struct{}
	// stuck are the commands that were held up.
	stuck []string
}

var errCut = errors.New("the line is cut")

func (l *line) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) waiting() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.stuck)
}

func (l *line) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

func (l *line) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = c.Close()
		return nil, errCut
	}
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *line) Listen(service string) (net.Listener, string, error) {
	inner, address, err := l.Mesh.Listen(service)
	return listener{inner, l}, address, err
}

func (l *line) Dial(service string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return l.Mesh.Dial(service, append(opts, l.guard()...)...)
}

func (l *line) DialInstance(address string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return l.Mesh.DialInstance(address, append(opts, l.guard()...)...)
}

// guard refuses calls of a cut line, whatever connection they would use.
func (l *line) guard() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if l.isCut() {
				return errCut
			}
			return next(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if l.isCut() {
				return nil, errCut
			}
			s, err := next(ctx, desc, cc, method, opts...)
			return cutStream{s, l}, err
		}),
	}
}

type cutStream struct {
	grpc.ClientStream
	line *line
}

func (s cutStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if s.line.isCut() {
		return errCut
	}
	return err
}

type listener struct {
	net.Listener
	line *line
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c, err = l.line.keep(c, nil); err == nil {
			return c, nil
		}
	}
}

// redisBy returns a client of the house's store that fails when the line is cut.
func (h *house) redisBy(l *line) redis.UniversalClient {
	h.t.Helper()
	var rdb redis.UniversalClient
	switch shared := h.rdb.(type) {
	case *redis.Client:
		rdb = redis.NewClient(shared.Options())
	case *redis.ClusterClient:
		rdb = redis.NewClusterClient(shared.Options())
	default:
		h.t.Fatalf("no second client of %T", shared)
	}
	rdb.AddHook(l)
	h.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// DialHook, ProcessHook and ProcessPipelineHook make a line a redis.Hook.
func (l *line) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *line) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if l.isCut() {
			cmd.SetErr(errCut)
			return errCut
		}
		l.mu.Lock()
		stalled := l.stall[cmd.Name()]
		l.mu.Unlock()
		if stalled != nil {
			l.mu.Lock()
			l.stuck = append(l.stuck, cmd.Name())
			l.mu.Unlock()
			<-stalled
		}
		return next(ctx, cmd)
	}
}

func (l *line) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if l.isCut() {
			return errCut
		}
		return next(ctx, cmds)
	}
}

// keys returns the store's keys that match.
func (h *house) keys(t testing.TB, pattern string) []string {
	t.Helper()
	keys, err := h.rdb.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// logs collects a daemon's log.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wav returns a tone as a 16-bit WAV file at 8000 Hz.
func wav(hz float64, samples int) []byte {
	var b bytes.Buffer
	data := 2 * samples
	b.WriteString("RIFF")
	put(&b, uint32(36+data))
	b.WriteString("WAVEfmt ")
	put(&b, uint32(16), uint16(1), uint16(1), uint32(8000), uint32(16000), uint16(2), uint16(16))
	b.WriteString("data")
	put(&b, uint32(data))
	for i := range samples {
		put(&b, int16(8000*math.Sin(2*math.Pi*hz*float64(i)/8000)))
	}
	return b.Bytes()
}

func put(w io.Writer, values ...any) {
	for _, v := range values {
		_ = binary.Write(w, binary.LittleEndian, v) // a buffer never fails
	}
}
