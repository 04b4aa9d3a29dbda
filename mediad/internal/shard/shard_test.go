package shard_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/collector"
	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
	"github.com/callmesh/callmesh/mediad/internal/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var far = netip.MustParseAddrPort("192.0.2.1:4000")

// wire is an engine without a network under a virtual clock: waiting is what
// makes time pass.
type wire struct {
	mu      sync.Mutex
	now     time.Duration
	late    time.Duration // added to the next wait
	arrived []packet.Datagram
	sent    map[packet.Flow][]rtp.Packet
	at      map[packet.Flow][]time.Duration
	flows   map[packet.Flow]bool
	awake   atomic.Bool
	closed  bool
}

func newWire() *wire {
	return &wire{sent: map[packet.Flow][]rtp.Packet{}, at: map[packet.Flow][]time.Duration{}, flows: map[packet.Flow]bool{}}
}

type nowhere struct{}

func (nowhere) Close() {}

func (w *wire) Open(netip.Addr, uint16) (engine.Endpoint, error) { return nowhere{}, nil }

func (w *wire) Attach(f packet.Flow, _ engine.Endpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flows[f] = true
	return nil
}

func (w *wire) Detach(f packet.Flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flows, f)
}

func (w *wire) Receive(wait time.Duration) []packet.Datagram {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.awake.Swap(false) {
		w.now += wait + w.late
		w.late = 0
	}
	out := w.arrived
	w.arrived = nil
	return out
}

func (w *wire) Send(batch []packet.Datagram) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range batch {
		var p rtp.Packet
		if d.RTCP || rtp.Parse(d.Data, &p) != nil {
			continue
		}
		p.Payload = nil
		w.sent[d.Flow] = append(w.sent[d.Flow], p)
		w.at[d.Flow] = append(w.at[d.Flow], w.now)
	}
	return len(batch)
}

func (w *wire) Wake() { w.awake.Store(true) }

func (w *wire) Close() error {
	w.closed = true
	return nil
}

func (w *wire) clock() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// figures are the shard's metrics.
type figures struct {
	mu       sync.Mutex
	worst    time.Duration
	skipped  int
	counters leg.Counters
}

func (f *figures) Lateness(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.worst = max(f.worst, d)
}

func (f *figures) Skipped(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skipped += n
}

func (f *figures) Count(_, now *leg.Counters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counters = *now
}

// rig is a running shard.
type rig struct {
	*shard.Shard
	wire    *wire
	figures figures
	mu      sync.Mutex
	events  []leg.Event
	stop    func()
}

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{wire: newWire()}
	r.Shard = shard.New(r.wire, r.wire.clock, &r.figures, func(e *leg.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, *e)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func config(id string) leg.Config {
	return leg.Config{
		Identity: leg.Identity{Leg: id}, Relatch: time.Second, Epoch: time.Unix(0, 0), Random: rand.New(rand.NewPCG(1, 2)),
	}
}

func description() leg.Description {
	pcmu := codec.NewPCMU()
	codec.NewRegistry(pcmu)
	return leg.Description{Remote: far, Codecs: []leg.Format{{Codec: pcmu}}}
}

func (r *rig) add(t *testing.T, id string) *leg.Leg {
	t.Helper()
	l, err := r.Add(t.Context(), nowhere{}, config(id), description())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// play makes a leg send silence.
func (r *rig) play(t *testing.T, l *leg.Leg) {
	t.Helper()
	if err := r.Do(t.Context(), func(now time.Duration) {
		l.Run(now, leg.Step{ID: "s", After: time.Hour, Rule: &collector.Rule{First: collector.Never}})
	}); err != nil {
		t.Fatal(err)
	}
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

func (r *rig) sent(f packet.Flow) int {
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	return len(r.wire.sent[f])
}

func TestEachLegTicksEvery20ms(t *testing.T) {
	r := start(t)
	var legs []*leg.Leg
	for i := range 25 {
		l := r.add(t, fmt.Sprint(i))
		r.play(t, l)
		legs = append(legs, l)
	}
	until(t, "50 packets of each leg", func() bool { return r.sent(legs[24].Flow) >= 50 })
	r.stop()
	offsets := map[time.Duration]int{}
	for _, l := range legs {
		at := r.wire.at[l.Flow]
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap != leg.Tick {
				t.Fatalf("leg %s: %v between packets", l.Identity.Leg, gap)
			}
		}
		offsets[at[0]%leg.Tick]++
	}
	if len(offsets) != 10 {
		t.Errorf("25 legs use %d of 10 phases", len(offsets))
	}
	if !r.wire.closed {
		t.Error("the engine was not closed")
	}
}

func TestALateShardSkipsAndSaysSo(t *testing.T) {
	r := start(t)
	l := r.add(t, "a")
	r.play(t, l)
	until(t, "packets", func() bool { return r.sent(l.Flow) > 5 })
	r.wire.mu.Lock()
	before := len(r.wire.sent[l.Flow])
	last := r.wire.sent[l.Flow][before-1]
	r.wire.late = time.Second
	r.wire.mu.Unlock()
	until(t, "packets after the pause", func() bool { return r.sent(l.Flow) > before+20 })
	r.stop()
	if r.figures.skipped < 45 || r.figures.skipped > 51 {
		t.Errorf("%d periods skipped of a second", r.figures.skipped)
	}
	sent := r.wire.sent[l.Flow]
	elapsed := (r.wire.at[l.Flow][before+20] - r.wire.at[l.Flow][before-1]) / leg.Tick
	if got := sent[before+20].Timestamp - last.Timestamp; got < uint32(elapsed-1)*160 || got > uint32(elapsed+1)*160 {
		t.Errorf("timestamps went on by %d in %d periods", got, elapsed)
	}
	for i := before; i < before+20; i++ {
		if sent[i].Sequence != sent[i-1].Sequence+1 {
			t.Error("a gap in the sequence")
		}
	}
}

func TestRemoveDetachesAndPublishesLast(t *testing.T) {
	r := start(t)
	l := r.add(t, "a")
	r.play(t, l)
	figures, err := r.Remove(t.Context(), l, &leg.Event{Of: &l.Identity, Kind: leg.Closed, Lost: "x"})
	if err != nil {
		t.Fatal(err)
	}
	r.wire.mu.Lock()
	attached := r.wire.flows[l.Flow]
	r.wire.mu.Unlock()
	if attached {
		t.Error("still attached")
	}
	_ = figures
	until(t, "two events", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.events) == 2 })
	if r.events[0].Kind != leg.StepResult || r.events[0].Reason != leg.Interrupted || r.events[1].Kind != leg.Closed {
		t.Errorf("events %v, %v", r.events[0].Kind, r.events[1].Kind)
	}
	// The flow is used again; the old leg's late packets are nobody's.
	if next := r.add(t, "b"); next.Flow != l.Flow {
		t.Errorf("flow %d, want the freed %d", next.Flow, l.Flow)
	}
}

func TestArrivalsReachTheirLeg(t *testing.T) {
	r := start(t)
	a, b := r.add(t, "a"), r.add(t, "b")
	data := make([]byte, 172)
	data[0] = 0x80
	r.wire.mu.Lock()
	r.wire.arrived = append(r.wire.arrived, packet.Datagram{Flow: b.Flow, Addr: far, Data: data})
	r.wire.mu.Unlock()
	r.wire.Wake()
	got := make(chan [2]uint64, 1)
	until(t, "the packet", func() bool {
		if err := r.Do(t.Context(), func(time.Duration) {
			got <- [2]uint64{a.Statistics().PacketsReceived, b.Statistics().PacketsReceived}
		}); err != nil {
			t.Fatal(err)
		}
		return <-got == [2]uint64{0, 1}
	})
}

func TestCommandsAfterTheEnd(t *testing.T) {
	r := start(t)
	r.stop()
	r.wire.awake.Store(false)
	for range 32 { // a queue with room must not win over the end
		if err := r.Do(t.Context(), func(time.Duration) {}); !errors.Is(err, shard.ErrClosed) {
			t.Errorf("err = %v", err)
		}
	}
	if r.wire.awake.Load() {
		t.Error("a closed engine was woken")
	}
}

func TestCommandsOfMany(t *testing.T) {
	r := start(t)
	var n int // the loop's alone
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 100 {
				if err := r.Do(context.Background(), func(time.Duration) { n++ }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.stop()
	if n != 5000 {
		t.Errorf("%d commands of 5000", n)
	}
}

// A publisher that is stuck holds up nobody but itself.
func TestEventsNeverBlockTheLoop(t *testing.T) {
	w := newWire()
	var f figures
	stuck := make(chan struct{})
	var published atomic.Int64
	s := shard.New(w, w.clock, &f, func(*leg.Event) { <-stuck; published.Add(1) })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx) })
	l, err := s.Add(ctx, nowhere{}, config("a"), description())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if err := s.Do(ctx, func(now time.Duration) {
			l.Run(now, leg.Step{ID: fmt.Sprint(i), After: time.Hour})
			l.Inject(now, '1')
		}); err != nil {
			t.Fatal(err)
		}
	}
	close(stuck)
	cancel()
	wg.Wait()
	if n := published.Load(); n != 999 { // 500 digits, and all steps but the last replaced
		t.Errorf("%d events published", n)
	}
}

// BenchmarkTick is one period of N legs that play, without a network.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 100, 1500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := &drain{}
			var now time.Duration
			s := shard.New(w, func() time.Duration { return now }, &figures{}, func(*leg.Event) {})
			pcmu := codec.NewPCMU()
			store := clip.NewStore(1<<24, codec.NewRegistry(pcmu))
			raw := make([]byte, 16000*60)
			c, err := store.Put(clip.ID(raw), raw)
			if err != nil {
				b.Fatal(err)
			}
			c.Encode(pcmu)
			shard.Drive(s, n, config, leg.Description{Remote: far, Codecs: []leg.Format{{Codec: pcmu}}}, func(l *leg.Leg) {
				c.Hold()
				l.Run(0, leg.Step{ID: "s", Background: c, After: time.Hour})
			})
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				now += leg.Tick
				shard.Turn(s)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/leg")
		})
	}
}

// drain takes everything and gives nothing.
type drain struct{ wire }

func (d *drain) Attach(packet.Flow, engine.Endpoint) error { return nil }
func (d *drain) Send(batch []packet.Datagram) int          { return len(batch) }
