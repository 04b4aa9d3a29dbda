package lane

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
)

// Options of a deliverer. Zero fields take the defaults.
type Options struct {
	// Send makes one attempt. Its ctx ends with Timeout. Errors marked by
	// [Permanent] end the attempts at an entry.
	Send func(ctx context.Context, d Delivery) error
	// Leases are the partitions whose overdue lanes fall to this instance; nil
	// delivers only what is kicked.
	Leases interface{ Held() []lease.Held }
	// Timeout bounds one attempt, 10 s. A lane stays with the one who took it for
	// five seconds longer, so that its next attempt never runs beside it.
	Timeout time.Duration
	// PerHost and Concurrent bound attempts under way, 16 and 256.
	PerHost, Concurrent int
	// Scan is how often leased partitions are searched for overdue lanes, 1 s, and
	// Grace what their owners are left with to deliver themselves, 3 s.
	Scan, Grace time.Duration
	// Policy replaces PolicyOf.
	Policy func(Kind) Policy
	// DeadCap bounds the dead letters of one partition, 10,000; the oldest go first.
	DeadCap int
}

func (o *Options) fill() error {
	if o.Send == nil {
		return errors.New("lane: no way to send")
	}
	set(&o.Timeout, 10*time.Second)
	set(&o.Scan, time.Second)
	set(&o.Grace, 3*time.Second)
	set(&o.PerHost, 16)
	set(&o.Concurrent, 256)
	set(&o.DeadCap, 10_000)
	if o.Policy == nil {
		o.Policy = PolicyOf
	}
	return nil
}

func set[T int | time.Duration](at *T, value T) {
	if *at <= 0 {
		*at = value
	}
}

// Deliverer delivers the entries of lanes. It keeps nothing that is not in Redis
// too, besides when to look at which lane next: it may die at any moment.
type Deliverer struct {
	rdb     redis.UniversalClient
	o       Options
	log     *slog.Logger
	results *prometheus.CounterVec

	wake chan struct{}
	wg   sync.WaitGroup

	mu sync.Mutex
	schedule
	waiting map[Ref][]chan struct{}
}

// NewDeliverer returns a deliverer of the lanes in rdb. It does nothing before Run.
func NewDeliverer(rdb redis.UniversalClient, log *slog.Logger, reg prometheus.Registerer, o Options) (*Deliverer, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	d := &Deliverer{
		rdb: rdb, o: o, log: log,
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_notifications_total",
			Help: "Attempts at notifications, by kind and result: delivered, retry, failed (given up) or dead (given up, kept for replay).",
		}, []string{"kind", "result"}),
		wake:     make(chan struct{}, 1),
		schedule: newSchedule(o.PerHost, o.Concurrent),
		waiting:  map[Ref][]chan struct{}{},
	}
	lanes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmesh_notification_lanes",
		Help: "Lanes with undelivered notifications that this instance attends to.",
	}, func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.items))
	})
	for _, c := range []prometheus.Collector{d.results, lanes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("lane: %w", err)
		}
	}
	return d, nil
}

// Kick has lanes looked at now. It does not block. What it cannot keep in mind
// is found again when it is overdue.
func (d *Deliverer) Kick(refs ...Ref) {
	d.mu.Lock()
	now := time.Now()
	for _, ref := range refs {
		d.at(ref, now)
	}
	d.mu.Unlock()
	d.poke()
}

func (d *Deliverer) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, and then waits for the attempts under way.
func (d *Deliverer) Run(ctx context.Context) error {
	defer d.wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	scan := time.NewTicker(d.o.Scan)
	defer scan.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-scan.C:
			d.scan(ctx)
		case <-d.wake:
		case <-timer.C:
		}
		if next, ok := d.dispatch(ctx); ok {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// dispatch starts a worker for each lane that is due, as far as the bounds allow,
// and returns when the next one will be.
func (d *Deliverer) dispatch(ctx context.Context) (next time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ripen(time.Now())
	for {
		ref, ok := d.pop()
		if !ok {
			break
		}
		d.wg.Go(func() { d.work(ctx, ref) })
	}
	return d.nextAt()
}

// stint bounds the entries that one worker delivers before other lanes of the
// same host have their turn.
const stint = 32

// work delivers a lane until it is empty, must wait, or others are due.
func (d *Deliverer) work(ctx context.Context, ref Ref) {
	again := time.Time{} // zero: the lane is empty
	defer func() {
		d.mu.Lock()
		d.finish(ref, again)
		d.mu.Unlock()
		d.poke()
	}()
	// An attempt that began is ended properly, also while the instance stops.
	ctx = context.WithoutCancel(ctx)
	turn, err := d.take(ctx, ref)
	for n := 1; ; n++ {
		switch {
		case err != nil:
			d.log.WarnContext(ctx, "lane not read; trying again", "session", ref.Session, "host", ref.Host(), "err", err)
			again = time.Now().Add(time.Second)
			return
		case turn.empty, turn.lost:
			return
		case turn.wait > 0:
			if turn.wait <= horizon {
				again = time.Now().Add(turn.wait)
			}
			return
		}
		verdict := d.attempt(ctx, turn)
		turn, err = d.settle(ctx, ref, turn.fence, verdict)
		d.progressed(ref)
		if n >= stint && err == nil && turn.fence != 0 {
			// The next entry is taken already: it is given back unharmed.
			turn, err = d.settle(ctx, ref, turn.fence, verdictOf{name: "yield"})
		}
	}
}

// horizon is how far ahead a lane is kept in mind. Later ones are found in Redis
// when they are due: an endpoint that is down for a day must not fill the memory.
const horizon = 30 * time.Second

func (d *Deliverer) hold() time.Duration { return d.o.Timeout + 5*time.Second }

// turn is what a script says about a lane.
type turn struct {
	empty, lost bool
	wait        time.Duration
	fence       int64
	Delivery
}

//go:embed take.lua
var takeLua string

//go:embed settle.lua
var settleLua string

var (
	takeScript = redis.NewScript(AppendLua + takeLua + `
return take(KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2]), clock())`)
	settleScript = redis.NewScript(AppendLua + takeLua + settleLua)
)

func (d *Deliverer) take(ctx context.Context, ref Ref) (turn, error) {
	p := partition.Of(ref.Session)
	reply, err := takeScript.Run(ctx, d.rdb, []string{ref.Key(), DueKey(p), fenceKey(p)}, ref.Member(), d.hold().Milliseconds()).Slice()
	if err != nil {
		return turn{}, fmt.Errorf("take: %w", err)
	}
	return readTurn(reply)
}

func readTurn(reply []any) (turn, error) {
	if len(reply) == 0 {
		return turn{empty: true}, nil
	}
	first, _ := reply[0].(int64)
	switch {
	case first < 0:
		return turn{lost: true}, nil
	case len(reply) < 5:
		return turn{wait: max(time.Duration(first)*time.Millisecond, time.Millisecond)}, nil
	}
	var t turn
	tries, _ := reply[2].(int64)
	age, _ := reply[3].(int64)
	text, _ := reply[4].(string)
	t.fence, _ = reply[1].(int64)
	t.Attempt, t.Age = int(tries), time.Duration(age)*time.Millisecond
	if err := json.Unmarshal([]byte(text), &t.Entry); err != nil {
		return turn{}, fmt.Errorf("an entry is malformed: %w", err)
	}
	return t, nil
}

// verdictOf an attempt, as settle.lua takes it.
type verdictOf struct {
	name   string
	delay  time.Duration
	letter string
	id     string
}

// attempt sends an entry and decides what becomes of it.
func (d *Deliverer) attempt(ctx context.Context, t turn) verdictOf {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	err := d.send(ctx, t.Delivery)
	kind := label(t.Kind)
	if err == nil {
		d.results.WithLabelValues(kind, "delivered").Inc()
		return verdictOf{name: "done"}
	}
	policy := d.o.Policy(t.Kind)
	if !IsPermanent(err) && !policy.Exhausted(t.Attempt, t.Age) {
		d.results.WithLabelValues(kind, "retry").Inc()
		return verdictOf{name: "retry", delay: policy.Delay(t.Attempt)}
	}
	attrs := []any{
		"session", t.Session, "domain", t.Domain, "kind", t.Kind, "http_transaction_id", t.ID,
		"host", t.Ref().Host(), "attempts", t.Attempt, "age", t.Age, "err", err,
	}
	if !policy.DeadLetter {
		d.results.WithLabelValues(kind, "failed").Inc()
		d.log.WarnContext(ctx, "notification failed", attrs...)
		return verdictOf{name: "drop"}
	}
	letter, id, encodeErr := newDeadLetter(t.Delivery, err)
	if encodeErr != nil { // cannot be: the entry was read from JSON
		d.log.ErrorContext(ctx, "dead letter not kept", "err", encodeErr)
		return verdictOf{name: "retry", delay: policy.Longest}
	}
	d.results.WithLabelValues(kind, "dead").Inc()
	d.log.ErrorContext(ctx, "notification given up, kept as a dead letter", attrs...)
	return verdictOf{name: "dead", letter: letter, id: id}
}

// send turns a panic of the sender into a failed attempt: one notification that
// cannot be sent must not end the process with all its calls.
func (d *Deliverer) send(ctx context.Context, t Delivery) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("lane: the sender panicked: %v", r)
		}
	}()
	return d.o.Send(ctx, t)
}

func (d *Deliverer) settle(ctx context.Context, ref Ref, fence int64, v verdictOf) (turn, error) {
	p := partition.Of(ref.Session)
	keys := []string{ref.Key(), DueKey(p), fenceKey(p), deadKey(p), deadBodyKey(p)}
	reply, err := settleScript.Run(ctx, d.rdb, keys, ref.Member(), d.hold().Milliseconds(), fence,
		v.name, v.delay.Milliseconds(), v.letter, v.id, d.o.DeadCap).Slice()
	if err != nil {
		return turn{}, fmt.Errorf("settle: %w", err)
	}
	return readTurn(reply)
}

// overdueLua lists lanes that are overdue, as long as the lease is in force.
// KEYS: lease, due   ARGV: token, grace in ms, limit
const overdueLua = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
local t = redis.call('TIME')
local late = t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[2]
return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', late), 'LIMIT', 0, ARGV[3])`

// scanLimit bounds the overdue lanes taken on in one scan of a partition. As an
// attempt moves a lane's time, those beyond it come up in the next scans.
const scanLimit = 1024

// scan takes on the overdue lanes of the partitions held: those of a dead
// instance, of one that restarted, and those put off beyond the horizon.
func (d *Deliverer) scan(ctx context.Context) {
	if d.o.Leases == nil {
		return
	}
	held := d.o.Leases.Held()
	if len(held) == 0 {
		return
	}
	replies := make([]*redis.Cmd, len(held))
	_, err := d.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, h := range held {
			// The whole text, not its digest: a pipeline cannot repeat what a server
			// that restarted does not know.
			replies[i] = pipe.Eval(ctx, overdueLua, []string{lease.Key(h.Partition), DueKey(h.Partition)},
				h.Token, d.o.Grace.Milliseconds(), scanLimit)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "overdue lanes not listed", "err", err)
	}
	for i, reply := range replies {
		members, err := reply.StringSlice()
		if err != nil {
			continue // told above
		}
		refs := make([]Ref, 0, len(members))
		for _, m := range members {
			ref, err := parseMember(m)
			if err != nil {
				d.log.ErrorContext(ctx, "unreadable lane", "partition", held[i].Partition, "err", err)
				continue
			}
			refs = append(refs, ref)
		}
		if len(refs) > 0 {
			d.Kick(refs...)
		}
	}
}

// label bounds the values of a metric's label.
func label(k Kind) string {
	switch k {
	case CallAnswered, CallNotify, Alarm, SessionStatus, RecordingReady, FileRecorded, SessionCompleted, CDR:
		return string(k)
	}
	return "other"
}
