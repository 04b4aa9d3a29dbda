package ua

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// txn is a server transaction: sipgo's state machine, and what CANCEL or a
// second look at it needs.
type txn struct {
	key      string
	mergeKey string
	source   netip.Addr // as sourceOf counts it
	tx       *sip.ServerTx

	mu sync.Mutex
	// last is the answer that a retransmission at another instance gets.
	last *sip.Response
	// cancel is set for an INVITE that control has been told of.
	cancel func(reason string) (tag string, tell func())
	// early is the Reason of a CANCEL that came before that.
	early *string
	// acked is set once a refused INVITE has its ACK.
	acked, lingered bool
}

// txnStore finds transactions by key, and INVITEs by what merged ones share.
type txnStore struct {
	mu     sync.Mutex
	closed bool
	byKey  map[string]*txn
	merge  map[string]*txn
	// bySource counts the transactions that each source has begun.
	bySource map[netip.Addr]int
}

func newTxnStore() *txnStore {
	return &txnStore{byKey: make(map[string]*txn), merge: make(map[string]*txn), bySource: make(map[netip.Addr]int)}
}

func (s *txnStore) get(key string) *txn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[key]
}

// merged tells whether another INVITE with the same origin is under way.
func (s *txnStore) merged(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.merge[key] != nil
}

func (s *txnStore) terminate() {
	s.mu.Lock()
	s.closed = true
	all := make([]*txn, 0, len(s.byKey))
	for _, t := range s.byKey {
		all = append(all, t)
	}
	s.mu.Unlock()
	for _, t := range all {
		t.tx.Terminate()
	}
}

func (s *txnStore) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

// ofSource counts the transactions of an address.
func (s *txnStore) ofSource(a netip.Addr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bySource[sourceOf(a)]
}

// crowded tells whether a source has begun as many transactions as it may: half
// of all for new calls, which is 1000 calls a second of one trunk, and another
// quarter for requests in a dialog, so that its calls can still be ended.
func (u *UA) crowded(r *request, inDialog bool) bool {
	share := u.cfg.MaxTransactions / 2
	if inDialog {
		share += u.cfg.MaxTransactions / 4
	}
	return u.txns.ofSource(r.flow.remote.Addr()) >= max(1, share)
}

// begin starts the transaction of a request, or returns the one that is there.
func (u *UA) begin(r *request) (t *txn, fresh bool) {
	s := u.txns
	key := r.key(r.method)
	s.mu.Lock()
	if t := s.byKey[key]; t != nil {
		s.mu.Unlock()
		return t, false
	}
	t = &txn{key: key, source: sourceOf(r.flow.remote.Addr())}
	if r.method == "INVITE" && r.m.Tag("to") == "" {
		t.mergeKey = dialog.MergeKey(&r.m)
		s.merge[t.mergeKey] = t
	}
	t.tx = sip.NewServerTx(key, u.origins[originKind{r.method == "INVITE", r.flow.reliable()}], r.flow, quiet)
	s.byKey[key] = t
	s.bySource[t.source]++
	closed := s.closed
	s.mu.Unlock()

	if err := t.tx.Init(); err != nil { // cannot fail in v1.7.2
		u.log.Error("transaction not started", "err", err)
	}
	t.tx.OnTerminate(func(string, error) { s.drop(t) })
	if r.method == "INVITE" {
		// At once: a 100 stops the caller's retransmissions before any work.
		if err := t.respond(r.response(100, "Trying", "", nil)); err != nil {
			u.log.Debug("100 not sent", "err", err)
		}
	}
	if closed {
		t.tx.Terminate()
	}
	return t, true
}

func (s *txnStore) drop(t *txn) {
	t.mu.Lock()
	linger := t.acked && !t.lingered
	t.lingered = true
	t.mu.Unlock()
	if linger {
		time.AfterFunc(sip.T4, func() { s.drop(t) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[t.key] == t {
		delete(s.byKey, t.key)
		if s.bySource[t.source]--; s.bySource[t.source] == 0 {
			delete(s.bySource, t.source)
		}
	}
	if t.mergeKey != "" && s.merge[t.mergeKey] == t {
		delete(s.merge, t.mergeKey)
	}
}

// quiet takes sipgo's log of its transactions: every line of it is either ours
// already or of no use to an operator.
var quiet = slog.New(slog.DiscardHandler)

func (t *txn) respond(res *sip.Response) error {
	t.mu.Lock()
	t.last = res
	t.mu.Unlock()
	err := t.tx.Respond(res)
	if errors.Is(err, sip.ErrTransactionTransport) {
		return err
	}
	return nil
}

func (t *txn) lastResponse() *sip.Response {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// originKind tells the requests apart that a transaction can begin with, as far
// as sipgo's machine asks.
type originKind struct{ invite, reliable bool }

// newOrigins makes one of each: the machine only reads its origin, and half a
// minute of transactions would hold a copy each.
func newOrigins() map[originKind]*sip.Request {
	all := make(map[originKind]*sip.Request)
	for _, invite := range []bool{true, false} {
		for _, reliable := range []bool{true, false} {
			method, transport := sip.BYE, "UDP"
			if invite {
				method = sip.INVITE
			}
			if reliable {
				transport = "TCP"
			}
			req := sip.NewRequest(method, sip.Uri{})
			req.SetTransport(transport)
			all[originKind{invite, reliable}] = req
		}
	}
	return all
}

// again takes a retransmission.
func (t *txn) again() {
	t.mu.Lock()
	acked := t.acked
	t.mu.Unlock()
	if !acked {
		_ = t.tx.Receive(t.tx.Origin())
	}
}

// ack takes the ACK to an answer of 300 or above. sipgo would park a goroutine
// with it for timer I; ours ends the machine and only keeps its place, so that
// late retransmissions still find it.
func (t *txn) ack() {
	t.mu.Lock()
	refused := t.last != nil && t.last.StatusCode >= 300
	if refused {
		t.acked = true
	}
	t.mu.Unlock()
	if refused {
		t.tx.Terminate()
	}
}

// cancellable arms the transaction for CANCEL. It returns the reason of one
// that was faster.
func (t *txn) cancellable(f func(string) (string, func())) *string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = f
	return t.early
}

func (t *txn) canceller(reason string) func(string) (string, func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel == nil {
		t.early = &reason
	}
	return t.cancel
}
