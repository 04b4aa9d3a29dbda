package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// All domains are in one slot: the directory is read as a whole, and a change
// and its version number must be seen together.
const (
	domainsKey = "cm:{directory}:domains"
	versionKey = "cm:{directory}:version"
)

// Store keeps the directory in Redis.
type Store struct{ rdb redis.UniversalClient }

// NewStore returns a store on rdb.
func NewStore(rdb redis.UniversalClient) *Store { return &Store{rdb: rdb} }

// Replace makes the domains the whole directory: what the configuration does
// not have any more neither routes nor authenticates. Without domains nothing
// changes: then another instance brings them.
func (s *Store) Replace(ctx context.Context, domains ...*directorypb.Domain) error {
	if len(domains) == 0 {
		return nil
	}
	fields := make([]any, 0, 2*len(domains))
	for _, d := range domains {
		b, err := proto.Marshal(d)
		if err != nil {
			return fmt.Errorf("directory: %s: %w", d.GetName(), err)
		}
		fields = append(fields, d.GetName(), b)
	}
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, domainsKey)
		p.HSet(ctx, domainsKey, fields...)
		p.Incr(ctx, versionKey)
		return nil
	})
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	return nil
}

func (s *Store) version(ctx context.Context) (int64, error) {
	v, err := s.rdb.Get(ctx, versionKey).Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return v, err
}

// Refresh reads the directory if it has changed since the last time.
func (d *Directory) Refresh(ctx context.Context) error {
	version, err := d.store.version(ctx)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if version == d.seen.Load() {
		return nil
	}
	raw, err := d.store.rdb.HGetAll(ctx, domainsKey).Result()
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	domains, err := decode(raw)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	d.latest.Store(index(domains))
	d.seen.Store(version)
	return nil
}

// Follow keeps the directory fresh until ctx ends. Redis being away is logged
// once, and the last copy stays in force.
func (d *Directory) Follow(ctx context.Context, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := d.Refresh(ctx)
		if err != nil && !away && ctx.Err() == nil {
			log.WarnContext(ctx, "directory cannot be refreshed; the last copy is used", "err", err)
		}
		away = err != nil
	}
}
