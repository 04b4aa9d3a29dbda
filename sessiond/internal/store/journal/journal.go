// Package journal keeps calls accounted for while Redis is away. A write of a
// live session that Redis does not take goes to a file that is synced before the
// call goes on, and from there to Redis once it is back, in order, as long as
// nobody has claimed the session meanwhile.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Options of a journal. Zero fields take the defaults.
type Options struct {
	// Dir holds the files; several instances may share one.
	Dir string
	// Instance names this instance's file.
	Instance string
	// MaxBytes bounds the file, 256 MiB. When it is full, writes fail as if there
	// were no journal.
	MaxBytes int64
	// Retry is how often Redis is tried while it is away, 500 ms.
	Retry time.Duration
	// Archived says whether the archive has a session. It is asked of old writes to
	// sessions that Redis does not know: whether Redis lost the session, or somebody
	// claimed, ended and archived it, is then no longer known there. Nil says no.
	Archived func(ctx context.Context, domain string, id uuid.UUID) (bool, error)
}

// Store is a store.Store whose writes of live sessions outlast an outage of
// Redis. New sessions are not journaled: their calls are refused.
type Store struct {
	*store.Store
	o   Options
	log *slog.Logger

	written prometheus.Counter
	dropped prometheus.Counter

	mu sync.Mutex
	// file is this instance's, left those of instances that are no more.
	file *file
	left []*file
	// pending counts the journaled writes of a session: as long as there are any,
	// further ones go behind them.
	pending map[uuid.UUID]int
	// down is set while Redis is known to be away, so that nobody waits for it.
	down bool
}

// Open returns s with a journal, and takes on what former instances left in it.
// Run must run for it to be written back.
func Open(s *store.Store, log *slog.Logger, reg prometheus.Registerer, o Options) (*Store, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.Retry <= 0 {
		o.Retry = 500 * time.Millisecond
	}
	j := &Store{
		Store: s, o: o, log: log, pending: map[uuid.UUID]int{},
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmesh_journal_writes_total", Help: "Writes of sessions kept in the local journal as Redis was away.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmesh_journal_dropped_total", Help: "Journaled writes not made, as another instance had claimed the session.",
		}),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmesh_journal_pending", Help: "Sessions with journaled writes that Redis does not have yet.",
	}, func() float64 { return float64(j.Pending()) })
	for _, c := range []prometheus.Collector{j.written, j.dropped, size} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	var err error
	if j.file, err = openFile(o.Dir, o.Instance); err != nil {
		return nil, err
	}
	if j.left, err = openLeft(o.Dir, o.Instance, log); err != nil {
		_ = j.file.close()
		return nil, err
	}
	for _, f := range append(j.left, j.file) {
		for _, r := range f.records() {
			j.pending[r.session()]++
		}
	}
	return j, nil
}

// Pending is how many sessions have writes that Redis does not have yet.
func (j *Store) Pending() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending)
}

// Save writes w to Redis, or else to the journal. The version it returns is then
// the one that the write will have.
func (j *Store) Save(ctx context.Context, w store.Write) (uint64, error) {
	if w.Version == 0 && !w.Reassert {
		if j.away() {
			return 0, fmt.Errorf("save session %s: %w", w.ID, store.ErrUnavailable)
		}
		return j.Store.Save(ctx, w)
	}
	if !j.behind(w.ID) {
		version, err := j.Store.Save(ctx, w)
		if !errors.Is(err, store.ErrUnavailable) {
			return version, err
		}
		j.fell(ctx, err)
	}
	// Whether Redis has made the write, nobody knows: replaying it must do in both
	// cases.
	w.Reassert = true
	if err := j.keep(record{Write: &w}); err != nil {
		return 0, err
	}
	return w.Version + 1, nil
}

// Append queues notifications in Redis, or else in the journal.
func (j *Store) Append(ctx context.Context, f store.Fence, entries ...lane.Entry) ([]lane.Result, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	if !j.behind(entries[0].Session) {
		results, err := j.Store.Append(ctx, f, entries...)
		if !errors.Is(err, store.ErrUnavailable) {
			return results, err
		}
		j.fell(ctx, err)
	}
	if err := j.keep(record{Fence: f, Entries: entries}); err != nil {
		return nil, err
	}
	results := make([]lane.Result, len(entries))
	for i := range results {
		results[i] = lane.Queued
	}
	return results, nil
}

func (j *Store) away() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.down
}

// behind is true where a write must go to the journal without trying Redis.
func (j *Store) behind(id uuid.UUID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.down || j.pending[id] > 0
}

// fell notes that Redis is away.
func (j *Store) fell(ctx context.Context, err error) {
	j.mu.Lock()
	first := !j.down
	j.down = true
	j.mu.Unlock()
	if first {
		j.log.ErrorContext(ctx, "Redis is away: live calls go on from memory and journal, new ones are refused", "err", err)
	}
}

func (j *Store) keep(r record) error {
	r.At = time.Now()
	text, err := r.encode()
	if err != nil {
		return err
	}
	j.mu.Lock()
	f := j.file
	if f.end+int64(len(text)) > j.o.MaxBytes {
		j.mu.Unlock()
		return fmt.Errorf("the journal is full: %w", store.ErrUnavailable)
	}
	at, err := f.write(text)
	if err == nil {
		j.pending[r.session()]++
	}
	j.mu.Unlock()
	if err == nil {
		err = f.sync(at)
	}
	if err != nil {
		return store.ErrUnavailable.Because(fmt.Errorf("journal: %w", err))
	}
	j.written.Inc()
	return nil
}

// Run writes the journal back as soon as Redis takes it, until ctx ends.
func (j *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(j.o.Retry)
	defer tick.Stop()
	j.round(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		j.round(ctx)
	}
}

// Close releases the files. What is in them waits for the next instance.
func (j *Store) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	errs := []error{j.file.close()}
	for _, f := range j.left {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// round replays what is there, oldest files first.
func (j *Store) round(ctx context.Context) {
	j.mu.Lock()
	idle := !j.down && len(j.pending) == 0
	left := j.left
	j.mu.Unlock()
	if idle {
		return
	}
	for _, f := range left {
		if !j.replay(ctx, f) {
			return
		}
		j.mu.Lock()
		j.left = j.left[1:]
		j.mu.Unlock()
		if err := f.remove(); err != nil {
			j.log.WarnContext(ctx, "journal of a former instance not removed", "err", err)
		}
	}
	if j.replay(ctx, j.file) {
		j.recovered(ctx)
	}
}

// recovered ends an outage during which nothing was journaled too: then the sign
// that Redis is back is that it answers.
func (j *Store) recovered(ctx context.Context) {
	if !j.away() {
		return
	}
	if _, err := j.Load(ctx, uuid.Nil); errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return
	}
	j.mu.Lock()
	j.down = false
	j.mu.Unlock()
	j.log.InfoContext(ctx, "Redis is back, and the journal written back")
}

// replay makes the writes of f, and empties it. It returns false where Redis did
// not take one.
func (j *Store) replay(ctx context.Context, f *file) bool {
	for {
		j.mu.Lock()
		r, next, err := f.first()
		if err == nil && r == nil {
			err = f.reset()
			j.mu.Unlock()
			if err != nil {
				j.log.ErrorContext(ctx, "journal not emptied", "err", err)
			}
			return true
		}
		j.mu.Unlock()
		if err != nil {
			j.log.ErrorContext(ctx, "journal not read", "err", err)
			return false
		}
		if !j.redo(ctx, *r) {
			return false
		}
		j.mu.Lock()
		f.done = next
		id := r.session()
		if j.pending[id]--; j.pending[id] <= 0 {
			delete(j.pending, id)
		}
		j.mu.Unlock()
	}
}

// redo makes one write. Only a Redis that is away stops the journal: a write that
// it refuses would be refused for ever.
func (j *Store) redo(ctx context.Context, r record) bool {
	over, err := j.over(ctx, r)
	switch {
	case err != nil:
		j.log.WarnContext(ctx, "journal waits", "session", r.session(), "err", err)
		return false
	case over:
		err = fmt.Errorf("archived: %w", store.ErrStaleEpoch)
	case r.Write != nil:
		_, err = j.Store.Save(ctx, *r.Write)
	default:
		_, err = j.Store.Append(ctx, r.Fence, r.Entries...)
	}
	switch {
	case err == nil, errors.Is(err, store.ErrStaleWrite): // made before a crash, and later ones too
	case errors.Is(err, store.ErrUnavailable), ctx.Err() != nil:
		return false
	case errors.Is(err, store.ErrStaleEpoch):
		j.dropped.Inc()
		j.log.WarnContext(ctx, "journaled write dropped: another instance has claimed the session", "session", r.session())
	default:
		j.dropped.Inc()
		j.log.ErrorContext(ctx, "journaled write refused", "session", r.session(), "err", err)
	}
	return true
}

// over says whether a write is so old that its session may have been claimed,
// ended, archived and forgotten by Redis, and was.
func (j *Store) over(ctx context.Context, r record) (bool, error) {
	if r.Write == nil || j.o.Archived == nil || time.Since(r.At) < lane.EndedFor/2 {
		return false, nil
	}
	if _, err := j.Load(ctx, r.Write.ID); !errors.Is(err, store.ErrNotFound) {
		return false, nil // also where Redis is away: the write will tell
	}
	return j.o.Archived(ctx, r.Write.Domain, r.Write.ID)
}
