package archive

import (
	"context"
	"fmt"
	"log/slog"
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
		queue: queue, archive: archive, leases: leases, read: read, log: log, o: o,
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_sessions_archived_total", Help: "Ended sessions by what became of them: archived, unreadable (archived without scalars) or lost.",
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

// Round archives what waits in the partitions held, and returns the first error
// after which it gave up.
func (a *Archiver) Round(ctx context.Context) error {
	for _, held := range a.leases.Held() {
		for {
			n, err := a.batch(ctx, held.Partition)
			if err != nil {
				return err
			}
			if n < a.o.Batch {
				break
			}
		}
	}
	return nil
}

// batch archives the first of a partition's queue and returns how many it moved.
func (a *Archiver) batch(ctx context.Context, p int) (int, error) {
	waiting, err := a.queue.ToArchive(ctx, p, a.o.Batch)
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
	if err := a.put(ctx, sessions); err != nil {
		return 0, err
	}
	for _, st := range waiting {
		if st.Version == 0 {
			a.log.ErrorContext(ctx, "record of an ended session is lost", "session", st.ID)
			a.done.WithLabelValues("lost").Inc()
		}
		if _, err := a.queue.Archived(ctx, st.ID, st.Domain, st.Version); err != nil {
			return 0, err
		}
	}
	a.done.WithLabelValues("archived").Add(float64(len(sessions)))
	return len(waiting), nil
}

func (a *Archiver) put(ctx context.Context, sessions []Session) error {
	if len(sessions) == 0 {
		return nil
	}
	// Bounded: a database that hangs must not keep the daemon from stopping.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return a.archive.Put(ctx, sessions...)
}
