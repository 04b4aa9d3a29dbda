// Package redisx opens the Redis that a configuration names: a single server, a
// cluster, a sentinel-guarded master, or one inside this process for trying
// things out.
package redisx

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits on one command. A call's signalling waits on the store, and a store
// that does not answer within a second is better treated as gone: the caller
// then keeps its calls alive from memory. One retry covers a connection that the
// server closed while it was idle.
const (
	dialTimeout = time.Second
	ioTimeout   = time.Second
	poolTimeout = time.Second
	maxRetries  = 1
)

// Open connects to the Redis at url and asks it for a sign of life within ctx.
// The second result closes the connection, and ends an embedded server that
// nobody else uses. URLs are
//
//	embedded:                                   one in this process, see below
//	embedded:<name>                             another one beside it
//	redis://[user:password@]host[:6379][/db]    a single server
//	rediss://…                                  the same by TLS
//	unix:///path/to/socket[?db=1]               a single server by its socket
//	redis+cluster://[user:password@]h1,h2,h3    a cluster, by some of its nodes
//	rediss+cluster://…
//	redis+sentinel://[user:password@]s1,s2,s3[/db]?master=<name>
//	rediss+sentinel://…                         …&sentinel_username=…&sentinel_password=…
//
// with go-redis' options, such as pool_size=50 or read_timeout=2s, as query. All
// who open the same embedded name within a process share one server, which
// forgets everything when the last of them closes it.
//
// Errors show the URL without its password.
func Open(ctx context.Context, url string) (redis.UniversalClient, func() error, error) {
	t, err := parse(url)
	if err != nil {
		return nil, nil, fmt.Errorf("redis URL %q: %w", Redact(url), err)
	}
	client, closer := t.open()
	if err := client.Ping(ctx).Err(); err != nil {
		_ = closer()
		return nil, nil, fmt.Errorf("redis at %s does not answer: %w", Redact(url), err)
	}
	return client, closer, nil
}

// target is a parsed URL: exactly one of the fields is set.
type target struct {
	embedded *string
	single   *redis.Options
	cluster  *redis.ClusterOptions
	sentinel *redis.FailoverOptions
}

func (t target) open() (redis.UniversalClient, func() error) {
	switch {
	case t.embedded != nil:
		return openEmbedded(*t.embedded)
	case t.cluster != nil:
		o := t.cluster
		o.MaintNotificationsConfig = noMaintenance()
		o.DisableIdentity, o.ContextTimeoutEnabled = true, true
		o.DialerRetries = 1
		bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.MaxRetries)
		client := redis.NewClusterClient(o)
		return client, client.Close
	case t.sentinel != nil:
		o := t.sentinel
		o.DisableIdentity, o.ContextTimeoutEnabled = true, true
		o.DialerRetries = 1
		bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.MaxRetries)
		client := redis.NewFailoverClient(o)
		return client, client.Close
	default:
		client := redis.NewClient(Tune(t.single))
		return client, client.Close
	}
}

// Tune fills what o leaves open with the limits that all daemons use.
func Tune(o *redis.Options) *redis.Options {
	o.MaintNotificationsConfig = noMaintenance()
	o.DisableIdentity, o.ContextTimeoutEnabled = true, true
	o.DialerRetries = 1
	bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.MaxRetries)
	return o
}

// noMaintenance spares each new connection a command that only Redis
// Enterprise understands.
func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func bound(dial, read, write, pool *time.Duration, retries *int) {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{dial, dialTimeout}, {read, ioTimeout}, {write, ioTimeout}, {pool, poolTimeout}} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	if *retries == 0 {
		*retries = maxRetries
	}
}
