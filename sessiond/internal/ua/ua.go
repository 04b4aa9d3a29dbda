package ua

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/sessiond/internal/sipcheck"
	"github.com/callmesh/callmesh/sessiond/internal/tag"
)

// Config is what an operator may set. Zero values mean the defaults named.
type Config struct {
	// Instance is this sessiond's name, as CallIndex and DialogOf use it.
	Instance string
	// Advertise is the host or address in our Contact and Via; empty means the
	// address a message came in on.
	Advertise string
	// UserAgent is the Server and User-Agent header; empty means none.
	UserAgent string
	// T1 and T2 pace the retransmission of 2xx (RFC 3261 §13.3.1.4): 500 ms, 4 s.
	T1, T2 time.Duration
	// MaxStreams bounds the connections: 4096, a quarter of them from one source.
	MaxStreams int
	// StreamIdle closes a connection that is silent that long: 10 min.
	StreamIdle time.Duration
	// SourceRate and SourceBurst are messages (per second, at once) that one
	// address may send: 10 000 and 20 000. A trunk is one address.
	SourceRate, SourceBurst int
	// MaxPending bounds the requests that wait for a store or another instance: 4096.
	MaxPending int
	// MaxTransactions bounds what is kept for half a minute after each request:
	// 131 072, about 1000 calls a second twice over. Beyond it new calls get 503,
	// and so do those of a source that has half of them.
	MaxTransactions int
}

func (c Config) withDefaults() Config {
	c.T1 = cmp.Or(c.T1, 500*time.Millisecond)
	c.T2 = cmp.Or(c.T2, 4*time.Second)
	c.MaxStreams = cmp.Or(c.MaxStreams, 4096)
	c.StreamIdle = cmp.Or(c.StreamIdle, 10*time.Minute)
	c.SourceRate = cmp.Or(c.SourceRate, 10_000)
	c.SourceBurst = cmp.Or(c.SourceBurst, 20_000)
	c.MaxPending = cmp.Or(c.MaxPending, 4096)
	c.MaxTransactions = cmp.Or(c.MaxTransactions, 1<<17)
	return c
}

// Deps are the UA's collaborators. Index and Forward may be nil where one
// instance is all there is.
type Deps struct {
	Calls   Calls
	Tags    *tag.Sealer
	Index   CallIndex
	Forward Forward
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// UA is a SIP user agent.
type UA struct {
	cfg     Config
	calls   Calls
	tags    *tag.Sealer
	index   CallIndex
	forward Forward
	log     *slog.Logger
	m       *metrics
	checker sipcheck.Checker
	limits  *limiter
	// salt makes the To tags of stateless answers.
	salt [16]byte

	txns    *txnStore
	origins map[originKind]*sip.Request
	clients clients
	legs    *legStore
	ringing early
	relays  relays
	wires   wires

	// life ends when Close begins; it is the parent of every event's context.
	life     context.Context
	end      context.CancelFunc
	draining atomic.Bool
	work     gate
}

// New makes a UA. Nothing is opened yet.
func New(cfg Config, deps Deps) (*UA, error) {
	switch {
	case deps.Calls == nil:
		return nil, errors.New("ua: no Calls")
	case deps.Tags == nil:
		return nil, errors.New("ua: no Tags")
	case deps.Log == nil:
		return nil, errors.New("ua: no Log")
	case deps.Metrics == nil:
		return nil, errors.New("ua: no Metrics")
	}
	cfg = cfg.withDefaults()
	u := &UA{
		cfg: cfg, calls: deps.Calls, tags: deps.Tags, index: deps.Index, forward: deps.Forward,
		log: deps.Log, limits: newLimiter(cfg.SourceRate, cfg.SourceBurst),
		txns: newTxnStore(), origins: newOrigins(), legs: newLegStore(),
	}
	var err error
	if u.m, err = newMetrics(deps.Metrics, u); err != nil {
		return nil, err
	}
	u.checker = sipcheck.Checker{Allow: allowed, Supported: supported}
	fillRandom(u.salt[:])
	u.work.limit = cfg.MaxPending
	u.life, u.end = context.WithCancel(context.Background()) //nolint:forbidigo // the life of the UA, ended by Close
	return u, nil
}

// Drain refuses new INVITEs with 503 from now on; everything else goes on.
func (u *UA) Drain() { u.draining.Store(true) }

// Addr returns the first bound address of a transport ("udp", "tcp"); it is
// invalid if there is none.
func (u *UA) Addr(transport string) netip.AddrPort { return u.wires.addr(transport) }

// Addrs returns all bound addresses of a transport.
func (u *UA) Addrs(transport string) []netip.AddrPort { return u.wires.addrs(transport) }

// Close stops receiving, ends all transactions and waits for what is running,
// at most until ctx ends. Dialogs are not ended: another instance may go on
// with them.
func (u *UA) Close(ctx context.Context) error {
	u.Drain()
	u.end()
	u.wires.close()
	u.txns.terminate()
	u.clients.terminate()
	u.legs.stop()
	u.relays.stop()
	done := make(chan struct{})
	go func() {
		u.wires.wait()
		u.work.wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("ua: work left at close"), ctx.Err())
	}
}

// gate counts work in flight that does I/O, bounds it, and refuses it once closed.
type gate struct {
	mu     sync.Mutex
	limit  int
	n      int
	closed bool
	idle   chan struct{}
}

func (g *gate) enter() bool { return g.admit(false) }

// must enters whatever the bound: for events that may not be lost.
func (g *gate) must() bool { return g.admit(true) }

func (g *gate) admit(unbounded bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || !unbounded && g.n >= g.limit {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.closed && g.n == 0 {
		close(g.idle)
	}
}

func (g *gate) wait() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed, g.idle = true, make(chan struct{})
	if g.n == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
}

// spawn runs f on its own goroutine, or returns false when too much is running.
func (u *UA) spawn(f func()) bool {
	if !u.work.enter() {
		return false
	}
	go func() {
		defer u.work.leave()
		f()
	}()
	return true
}
