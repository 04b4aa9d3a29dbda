package mediad_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
	"github.com/callmesh/callmesh/mediad/internal/telephonyevent"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

const controller = "sessiond-1"

// instance is a running mediad and a sessiond's connection to it.
type instance struct {
	mediapb.MediaClient
	metrics *prometheus.Registry
	stop    func() error
}

// start runs a mediad until the test ends.
func start(t testing.TB, configure func(*mediad.Config)) *instance {
	t.Helper()
	return startIn(t, environment(t), configure)
}

func startIn(t testing.TB, env daemon.Env, configure func(*mediad.Config)) *instance {
	t.Helper()
	cfg := mediad.Defaults()
	cfg.Ports = "20000-59999"
	cfg.Quarantine = 0
	if configure != nil {
		configure(&cfg)
	}
	in := &instance{metrics: prometheus.NewRegistry()}
	env.Metrics = in.metrics
	parts, err := mediad.Parts(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- run.All(ctx, env.Log, 300*time.Millisecond, func() { close(ready) }, parts...) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	dialer := grpckit.NewDialer(env.Mesh, env.Signer, "sessiond")
	conn, err := dialer.Service(mediad.Service)
	if err != nil {
		t.Fatal(err)
	}
	in.MediaClient = mediapb.NewMediaClient(conn)
	in.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := in.stop(); err != nil {
			t.Logf("stop: %v", err)
		}
		if err := dialer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return in
}

// environment of a mediad without Redis.
func environment(t testing.TB) daemon.Env {
	t.Helper()
	signer, err := principal.NewSigner(bytes.Repeat([]byte("s"), 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return daemon.Env{
		Service: mediad.Service, Instance: "m1", Mesh: &mesh.Memory{}, Signer: signer,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now,
	}
}

// gauge reads a metric without labels.
func (in *instance) gauge(t testing.TB, name string) float64 {
	t.Helper()
	families, err := in.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// phone is the far end: a real UDP socket that speaks RTP.
type phone struct {
	t         testing.TB
	conn      *net.UDPConn
	to        netip.AddrPort
	ssrc      uint32
	sequence  uint16
	timestamp uint32
}

func newPhone(t testing.TB) *phone {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &phone{t: t, conn: conn, ssrc: 0x1111, sequence: 65530}
}

func (p *phone) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// describe is mediad's view of this phone.
func (p *phone) describe(codecs ...string) *mediapb.Description {
	d := &mediapb.Description{
		RemoteAddress: p.addr().Addr().String(), RemotePort: uint32(p.addr().Port()), TelephoneEventPayloadType: 101,
	}
	if len(codecs) == 0 {
		codecs = []string{"PCMU"}
	}
	for _, c := range codecs {
		d.Codecs = append(d.Codecs, &mediapb.Codec{Name: c, PayloadType: map[string]uint32{"PCMU": 0, "PCMA": 8}[c], ClockRate: 8000})
	}
	return d
}

// call makes a leg for the phone.
func (in *instance) call(t testing.TB, p *phone, leg string) {
	t.Helper()
	r, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{
		LegId: leg, SessionId: "s-" + leg, ParticipantId: "p-" + leg, Controller: controller, Grant: 1, Description: p.describe(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.to = netip.AddrPortFrom(netip.MustParseAddr(r.GetLocalAddress()), uint16(r.GetLocalPort()))
}

// sendPacket sends one RTP packet.
func (p *phone) sendPacket(pt uint8, marker bool, timestamp uint32, payload []byte) {
	p.t.Helper()
	data := make([]byte, rtp.HeaderSize, rtp.HeaderSize+len(payload))
	rtp.PutHeader(data, &rtp.Packet{Marker: marker, PayloadType: pt, Sequence: p.sequence, Timestamp: timestamp, SSRC: p.ssrc})
	p.sequence++
	if _, err := p.conn.WriteToUDPAddrPort(append(data, payload...), p.to); err != nil {
		p.t.Fatal(err)
	}
}

// audio sends one frame of PCMU.
func (p *phone) audio() {
	p.sendPacket(0, false, p.timestamp, bytes.Repeat([]byte{0xFF}, codec.FrameSamples))
	p.timestamp += codec.FrameSamples
}

// press sends the events of a key without waiting between them; keep says
// which packets reach the network.
func (p *phone) press(keys string, keep func() bool) {
	var s telephonyevent.Sender
	for _, k := range keys {
		if !s.Queue(string(k), 5*codec.FrameSamples, 3*codec.FrameSamples) {
			p.t.Fatal("key queue full")
		}
		for range 10 {
			var e telephonyevent.Packet
			if s.Tick(p.timestamp, codec.FrameSamples, &e) && (keep == nil || keep()) {
				p.sendPacket(101, e.Marker, e.Timestamp, e.Payload[:])
			} else {
				p.sequence++
			}
			p.timestamp += codec.FrameSamples
		}
	}
}

// heard is one packet from mediad.
type heard struct {
	rtp.Packet
	from netip.AddrPort
	at   time.Time
}

// listen reads the next RTP packet.
func (p *phone) listen() heard {
	p.t.Helper()
	h, ok := p.listenFor(3 * time.Second)
	if !ok {
		p.t.Fatal("no RTP within 3 s")
	}
	return h
}

// listenFor is false when nothing comes within d.
func (p *phone) listenFor(d time.Duration) (h heard, ok bool) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		p.t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return heard{}, false
		}
		if rtp.IsRTCP(buffer[:n]) {
			continue
		}
		h.from, h.at = from, time.Now()
		if err := rtp.Parse(buffer[:n], &h.Packet); err != nil {
			p.t.Fatal(err)
		}
		return h, true
	}
}

// hear decodes n packets of PCMU or PCMA.
func (p *phone) hear(n int) []int16 {
	p.t.Helper()
	codecs := map[uint8]*codec.Codec{0: codec.NewPCMU(), 8: codec.NewPCMA()}
	var out []int16
	for range n {
		h := p.listen()
		var frame [codec.FrameSamples]int16
		codecs[h.PayloadType].Decode(frame[:], h.Payload)
		out = append(out, frame[:]...)
	}
	return out
}

// tone is a sine of linear samples, little-endian.
func tone(hz float64, length time.Duration) []byte {
	n := int(length * codec.SampleRate / time.Second)
	out := make([]byte, 2*n)
	for i := range n {
		v := int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/codec.SampleRate))
		out[2*i], out[2*i+1] = byte(v), byte(v>>8)
	}
	return out
}

// level is the share of a frequency in the energy of samples (Goertzel): about
// 1 for a pure tone of it.
func level(samples []int16, hz float64) float64 {
	var s1, s2, energy float64
	k := 2 * math.Cos(2*math.Pi*hz/codec.SampleRate)
	for _, v := range samples {
		x := float64(v)
		s1, s2 = x+k*s1-s2, s1
		energy += x * x
	}
	if energy == 0 {
		return 0
	}
	return (s1*s1 + s2*s2 - k*s1*s2) / (energy * float64(len(samples)) / 2)
}

// put stores audio in several messages and returns its id.
func (in *instance) put(t testing.TB, samples []byte) string {
	t.Helper()
	id := clip.ID(samples)
	stream, err := in.PutClip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for first := true; first || len(samples) > 0; first = false {
		n := min(len(samples), 10_000)
		m := &mediapb.PutClipRequest{Samples: samples[:n]}
		if first {
			m.ClipId = id
		}
		if err := stream.Send(m); err != nil {
			break // CloseAndRecv has the reason
		}
		samples = samples[n:]
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	return id
}

// events is a watch of the test's controller.
type events struct {
	t      testing.TB
	stream chan *mediapb.WatchResponse
}

func (in *instance) watch(t testing.TB, name string, cursors ...*mediapb.Cursor) *events {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := in.Watch(ctx, &mediapb.WatchRequest{Controller: name, Cursors: cursors})
	if err != nil {
		t.Fatal(err)
	}
	e := &events{t: t, stream: make(chan *mediapb.WatchResponse, 10_000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(e.stream)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			e.stream <- m
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return e
}

// next event of any kind.
func (e *events) next() *mediapb.WatchResponse {
	e.t.Helper()
	select {
	case m, ok := <-e.stream:
		if !ok {
			e.t.Fatal("the watch ended")
		}
		return m
	case <-time.After(10 * time.Second):
		e.t.Fatal("no event within 10 s")
	}
	return nil
}

// result waits for the next step result.
func (e *events) result() *mediapb.StepResult {
	e.t.Helper()
	for {
		if r := e.next().GetStepResult(); r != nil {
			return r
		}
	}
}

func (in *instance) run(t testing.TB, leg string, grant uint64, step *mediapb.Step) {
	t.Helper()
	r, err := in.RunStep(t.Context(), &mediapb.RunStepRequest{LegId: leg, Grant: grant, Controller: controller, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.GetMissingClips()) > 0 {
		t.Fatalf("missing clips %v", r.GetMissingClips())
	}
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// until polls with a deadline.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(5 * time.Second); !done(); <-poll.C {
		if time.Now().After(end) {
			t.Fatal("not within 5 s: ", what)
		}
	}
}
