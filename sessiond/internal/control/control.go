// Package control carries calls through their life: it feeds what happens to
// the state machine of package call, stores each new state, and then does what
// the machine asks for. One session's events are handled one after the other;
// sessions do not wait for each other.
package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/fault"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/callback"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/media"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// Store keeps sessions. Its contract is that of package store.
type Store interface {
	Save(ctx context.Context, w store.Write) (version uint64, err error)
	Load(ctx context.Context, id uuid.UUID) (store.Stored, error)
	NextNumber(ctx context.Context, partition int) (int64, error)
	Append(ctx context.Context, f store.Fence, entries ...lane.Entry) ([]lane.Result, error)
}

// Directory routes called users to domains.
type Directory interface {
	Route(user, host string) (*directorypb.Domain, bool)
	Domain(name string) (*directorypb.Domain, bool)
}

// Media holds legs at media servers; errors are faults.
type Media interface {
	OpenLeg(ctx context.Context, o media.Open) (media.Opened, error)
	UpdateLeg(ctx context.Context, address, leg string, d *mediapb.Description) error
	CloseLeg(ctx context.Context, address, leg string) (call.Statistics, error)
	InjectDigit(ctx context.Context, address, leg, digit string, d time.Duration) error
}

// Dialogues runs IVR dialogues.
type Dialogues interface {
	// Start hands a participant over and returns the address of the ivrd in charge.
	Start(ctx context.Context, d Dialogue) (address string, err error)
	// Stop returns when nothing more will come of the dialogue.
	Stop(ctx context.Context, address string, session, participant uuid.UUID) error
	// Interrupt stops the running command.
	Interrupt(ctx context.Context, address string, session, participant uuid.UUID, command string) error
}

// Dialogue is what an ivrd needs to know of a participant.
type Dialogue struct {
	Session, Participant uuid.UUID
	Domain               string
	LegID, MediaAddress  string
	Grant                uint64
	ReferenceID, Command []byte
	AllowPrivate         bool
}

// Application asks the customer's application.
type Application interface {
	// Ask returns the body of a 2xx answer. Errors are APPLICATION_FAILED faults
	// whose message may be shown to the customer.
	Ask(ctx context.Context, d *directorypb.Domain, q Question) ([]byte, error)
}

// Question is one request that waits for its answer.
type Question struct {
	Session uuid.UUID
	// Name is the callback's name, and the last segment of its URL.
	Name string
	// Transaction is the httpTransactionId.
	Transaction string
	Body        []byte
}

// Phone is the SIP side that control commands.
type Phone interface {
	// Bye ends the dialog and returns when the far end has answered, or will not.
	Bye(ctx context.Context, d *dialog.Dialog, headers ...ua.Header) error
	// Forget drops what the UA keeps of a leg.
	Forget(leg ua.LegRef)
}

// Deps are what control needs; all are required but Limit.
type Deps struct {
	// Instance is this sessiond's name, the owner of what it holds.
	Instance    string
	Store       Store
	Directory   Directory
	Media       Media
	Dialogues   Dialogues
	Application Application
	Reply       *reply.Signer
	// PartitionKey maps Call-IDs to partitions.
	PartitionKey []byte
	// Server is this node's address, as callbacks show it.
	Server  string
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
	// Limit is the longest a session may last; 0 = 4 hours (contract §1.12).
	Limit time.Duration
}

const defaultLimit = 4 * time.Hour

// Control holds the sessions that this instance owns.
type Control struct {
	Deps
	m     *metrics
	phone Phone

	mu       sync.Mutex
	sessions map[uuid.UUID]*live
	empty    chan struct{} // closed when draining and no session is left

	draining atomic.Bool
	// work counts what was begun on behalf of sessions: Close waits for it.
	work  sync.WaitGroup
	life  context.Context
	endIt context.CancelFunc
}

// New returns a control without sessions. Connect must come before any call.
func New(d Deps) (*Control, error) {
	if d.Limit == 0 {
		d.Limit = defaultLimit
	}
	m, err := newMetrics(d.Metrics)
	if err != nil {
		return nil, err
	}
	c := &Control{Deps: d, m: m, sessions: map[uuid.UUID]*live{}, empty: make(chan struct{})}
	c.life, c.endIt = context.WithCancel(context.Background()) //nolint:forbidigo // the life of Control, beyond any request
	return c, nil
}

// Connect gives control its phone. The two know each other, so one of them has
// to be made first.
func (c *Control) Connect(p Phone) { c.phone = p }

// Active returns how many sessions this instance holds.
func (c *Control) Active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// What Drain leaves of the grace period: for ending what callers have not ended
// themselves, and then for the daemon's other parts.
const (
	leaveForHangingUp = 3 * time.Second
	leaveForOthers    = 2 * time.Second
)

// Drain takes no new calls and waits for those that run. Shortly before ctx
// ends it hangs the rest up, so that they are accounted for here and now.
func (c *Control) Drain(ctx context.Context) error {
	c.draining.Store(true)
	c.checkEmpty()
	if !c.emptyWithin(ctx, leaveForHangingUp) {
		c.Log.WarnContext(ctx, "hanging up the calls that are left", "sessions", c.Active())
		c.each(func(l *live) { l.post(call.HungUp{Shutdown: true}) })
	}
	var err error
	if !c.emptyWithin(ctx, leaveForOthers) && c.unaccounted() > 0 {
		err = errors.New("calls were still up at the end of the grace period")
	}
	// What is left waits for far ends that do not answer a BYE: it is given up.
	c.endIt()
	c.work.Wait()
	return err
}

// unaccounted counts the sessions that are not done; the others wait for the
// answer to a BYE alone.
func (c *Control) unaccounted() (n int) {
	c.each(func(l *live) {
		if l.snapshot().Stage != call.Done {
			n++
		}
	})
	return n
}

// emptyWithin waits for the last session to end, until so long before ctx does.
func (c *Control) emptyWithin(ctx context.Context, before time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-before))
		defer cancel()
	}
	select {
	case <-c.empty:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Control) each(do func(*live)) {
	c.mu.Lock()
	all := make([]*live, 0, len(c.sessions))
	for _, l := range c.sessions {
		all = append(all, l)
	}
	c.mu.Unlock()
	for _, l := range all {
		do(l)
	}
}

func (c *Control) checkEmpty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) > 0 || !c.draining.Load() {
		return
	}
	select {
	case <-c.empty:
	default:
		close(c.empty)
	}
}

func (c *Control) find(id uuid.UUID) (*live, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.sessions[id]
	return l, ok
}

func (c *Control) add(l *live) {
	c.mu.Lock()
	c.sessions[l.id] = l
	c.mu.Unlock()
	c.m.live.Inc()
}

func (c *Control) drop(l *live) {
	c.mu.Lock()
	_, had := c.sessions[l.id]
	delete(c.sessions, l.id)
	c.mu.Unlock()
	if had {
		c.m.live.Dec()
	}
	c.checkEmpty()
}

// begin runs work for a session, and Drain waits for it.
func (c *Control) begin(work func(ctx context.Context)) {
	c.work.Go(func() { work(c.life) })
}

// site returns what callbacks of the domain say of us.
func (c *Control) site(d *directorypb.Domain) callback.Site {
	return callback.Site{Server: c.Server, ID: d.GetApplication().GetSiteId(), BaseURL: d.GetApplication().GetSiteBaseUrl()}
}

// notHere is what callers get for sessions that this instance does not hold.
func notHere(id uuid.UUID) error {
	return fault.New(fault.SessionNotFound, "session %s not found", id)
}
