package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Queue is the live store as the archiver sees it.
type Queue interface {
	// ToArchive returns ended sessions of a partition, the longest waiting first; a
	// session without a record was lost by Redis.
	ToArchive(ctx context.Context, partition, limit int) ([]store.Stored, error)
	// Archived forgets a session, unless it has another version by now: false.
	Archived(ctx context.Context, id uuid.UUID, domain string, version uint64) (bool, error)
}

// Options of an archiver. Zero fields take the defaults.
type Options struct {
	// Every is how often the queues are looked at, 500 ms. Until a session is
	// archived it is served from the live store, so that nobody waits for it.
	Every time.Duration
	// Batch is how many sessions are committed at a time, 100.
	Batch int
}

// Archiver moves ended sessions from the live store to the archive: it commits
// them to SQL before it lets the live store forget them, so that a reader who
// looks at the live ones first and at the archive then misses none.
type Archiver struct {
	queue   Queue
	archive *Archive
	leases  interface{ Held() []lease.Held }
	read    func(store.Stored) (Session, error)
	log     *slog.Logger
	o       Options
	done    *prometheus.CounterVec
	// refused are sessions that the database does not take, until they are tried
	// again.
	refused map[uuid.UUID]time.Time
	// down is whether the last round failed, so that an outage is told once.
	down bool
}

// NewArchiver returns an archiver for the partitions that leases hold. read takes
// the scalars from a record.
func NewArchiver(queue Queue, archive *Archive, leases interface{ Held() []lease.Held }, read func(store.Stored) (Session, error),
	log *slog.Logger, reg prometheus.Registerer, o Options,
) (*Archiver, error) {
	if o.Every <= 0 {
		o.Every = 500 * time.Millisecond
	}
	if o.Batch <= 0 || o.Batch > maxRows {
		o.Batch = 100
	}
	a := &Archiver{
		queue: queue, archive: archive, leases: leases, read: read, log: log, o: o, refused: map[uuid.UUID]time.Time{},
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_sessions_archived_total", Help: "Ended sessions by what became of them: archived, unreadable (archived without scalars), refused (by the database, and tried again) or lost.",
		}, []string{"result"}),
	}
	if err := reg.Register(a.done); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return a, nil
}

// Run archives until ctx ends. It does not fail: what cannot be archived waits in
// its queue.
func (a *Archiver) Run(ctx context.Context) error {
	tick := time.NewTicker(a.o.Every)
	defer tick.Stop()
	for {
		err := a.Round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !a.down:
			a.log.ErrorContext(ctx, "ended sessions wait for the archive", "err", err)
		case err == nil && a.down:
			a.log.InfoContext(ctx, "the archive takes sessions again")
		}
		a.down = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// errRefused: the database works, and did not take some of the sessions.
var errRefused = errors.New("the archive refused a session")

// Round archives what waits in the partitions held, and returns the first error.
// Sessions that the database refuses hold nobody up; other errors end the round.
func (a *Archiver) Round(ctx context.Context) (first error) {
	for id, until := range a.refused {
		if time.Now().After(until) {
			delete(a.refused, id)
		}
	}
	for _, held := range a.leases.Held() {
		for {
			n, err := a.batch(ctx, held.Partition)
			if errors.Is(err, errRefused) {
				if first == nil {
					first = err
				}
				err = nil
			}
			if err != nil {
				return err
			}
			if n < a.o.Batch {
				break
			}
		}
	}
	return first
}

// batch archives the first of a partition's queue and returns how many it moved.
func (a *Archiver) batch(ctx context.Context, p int) (int, error) {
	waiting, err := a.waiting(ctx, p)
	if err != nil || len(waiting) == 0 {
		return 0, err
	}
	sessions := make([]Session, 0, len(waiting))
	for _, st := range waiting {
		if st.Version == 0 {
			continue
		}
		s, err := a.read(st)
		if err != nil {
			// Kept all the same: every session has its row, and somebody may read the
			// record one day.
			a.log.ErrorContext(ctx, "record of an ended session is unreadable", "session", st.ID, "err", err)
			a.done.WithLabelValues("unreadable").Inc()
			s = Session{}
		}
		s.ID, s.Domain, s.Version, s.Record = st.ID, st.Domain, st.Version, st.Record
		sessions = append(sessions, s)
	}
	refused, err := a.put(ctx, sessions)
	if err != nil && !errors.Is(err, errRefused) {
		return 0, err
	}
	waiting = slices.DeleteFunc(waiting, func(st store.Stored) bool { return refused[st.ID] })
	for _, st := range waiting {
		if st.Version == 0 {
			a.log.ErrorContext(ctx, "record of an ended session is lost", "session", st.ID)
			a.done.WithLabelValues("lost").Inc()
		}
		if _, err := a.queue.Archived(ctx, st.ID, st.Domain, st.Version); err != nil {
			return 0, err
		}
	}
	a.done.WithLabelValues("archived").Add(float64(len(sessions) - len(refused)))
	return len(waiting), err
}

// waiting returns the first of a partition's queue, without those that were
// refused lately.
func (a *Archiver) waiting(ctx context.Context, p int) ([]store.Stored, error) {
	all, err := a.queue.ToArchive(ctx, p, a.o.Batch+len(a.refused))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(st store.Stored) bool {
		_, refused := a.refused[st.ID]
		return refused
	})
	return all[:min(len(all), a.o.Batch)], nil
}

// put archives sessions together or, where the database does not take them so,
// one by one. It returns those that it refused with errRefused.
func (a *Archiver) put(ctx context.Context, sessions []Session) (refused map[uuid.UUID]bool, err error) {
	if len(sessions) == 0 {
		return nil, nil
	}
	// Bounded: a database that hangs must not keep the daemon from stopping.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err = a.archive.Put(ctx, sessions...); err == nil {
		return nil, nil
	}
	refused = map[uuid.UUID]bool{}
	for _, s := range sessions {
		putErr := a.archive.Put(ctx, s)
		if putErr == nil {
			continue
		}
		if a.archive.Ping(ctx) != nil { // nobody is to blame for a database that is down
			return nil, putErr
		}
		refused[s.ID], err = true, putErr
	}
	switch {
	case len(refused) == 0:
		return nil, nil
	case len(a.refused)+len(refused) > maxRefused:
		return nil, fmt.Errorf("too many sessions are refused: %w", err)
	}
	for id := range refused {
		a.refused[id] = time.Now().Add(refusedFor)
	}
	a.done.WithLabelValues("refused").Add(float64(len(refused)))
	err = fmt.Errorf("%w: %w", errRefused, err)
	a.log.ErrorContext(ctx, "sessions stay queued, as the archive refuses them", "sessions", len(refused), "err", err)
	return refused, err
}

const (
	// refusedFor is how long a refused session rests before it is tried again.
	refusedFor = time.Minute
	// maxRefused sessions are more than are to blame themselves: a disk is full.
	maxRefused = 1000
)
