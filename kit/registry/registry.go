// Package registry knows which instances of a service are alive, where they
// are reached and how busy they are: each says so in Redis, every few seconds.
package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// Load is what an instance says about itself when it announces its presence.
type Load struct {
	// Active and Capacity count what the service holds: sessions, legs, dialogues.
	// Capacity 0 means that no limit is known.
	Active   int `json:"active"`
	Capacity int `json:"capacity,omitempty"`
	// Draining instances finish what they have and take nothing new.
	Draining bool `json:"draining,omitempty"`
}

// Usage is the part of the capacity in use, for choosing the least loaded. An
// instance of unknown capacity counts its active ones against a thousand.
func (l Load) Usage() float64 {
	if l.Capacity <= 0 {
		return float64(l.Active) / 1000
	}
	return float64(l.Active) / float64(l.Capacity)
}

// Instance is one announced instance of a service.
type Instance struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Started tells two lives of one name apart.
	Started time.Time `json:"started"`
	Load    Load      `json:"load"`
}

// Defaults of [Options].
const (
	DefaultEvery = 2 * time.Second
	DefaultTTL   = 7 * time.Second
)

// Options say how often an instance announces itself, and after which silence it
// counts as dead. The TTL leaves room for two lost heartbeats, as a false death
// makes another instance claim sessions. Zero fields take the defaults.
type Options struct {
	Every, TTL time.Duration
}

// Registry is the list of instances in one Redis. All instances must use the
// same options.
type Registry struct {
	rdb   redis.UniversalClient
	every time.Duration
	ttl   time.Duration
	log   *slog.Logger
}

// New returns the registry kept in rdb.
func New(rdb redis.UniversalClient, log *slog.Logger, o Options) *Registry {
	r := &Registry{rdb: rdb, every: o.Every, ttl: o.TTL, log: log}
	if r.every <= 0 {
		r.every = DefaultEvery
	}
	if r.ttl <= 0 {
		r.ttl = DefaultTTL
	}
	return r
}

// One slot a service: its heartbeats as a sorted set by expiry, and what the
// instances said in a hash.
func beatsKey(service string) string { return "cm:{registry:" + service + "}:beats" }
func saidKey(service string) string  { return "cm:{registry:" + service + "}:said" }

// The scripts use the server's clock, so that the instances' own need not agree.
var (
	announceScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1`)

	withdrawScript = redis.NewScript(`
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])`)

	// Forgets instances that have been dead for ARGV[1] ms.
	listScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[1]))) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
local found = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  local said = redis.call('HGET', KEYS[2], name)
  if said then found[#found + 1] = said end
end
return found`)

	aliveScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local till = redis.call('ZSCORE', KEYS[1], ARGV[1])
if till and tonumber(till) > now then return 1 end
return 0`)
)

// forgetAfter is how long a dead instance's entry stays, in ms: long enough to
// look at, short enough for a deployment that renames its pods at every roll-out.
const forgetAfter = 3_600_000

// Announce says that instance of service is alive at address, at once and from
// then on every few seconds, until ctx ends; then it withdraws the instance. It
// is the body of a run.Part. A Redis that is gone does not end it: the others
// then see the instance die, and see it again when Redis is back.
func (r *Registry) Announce(ctx context.Context, service, instance, address string, load func() Load) error {
	self := Instance{Name: instance, Address: address, Started: time.Now().UTC()}
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	silent := false
	for {
		self.Load = load()
		err := r.beat(ctx, service, self)
		if err != nil && ctx.Err() == nil && !silent {
			r.log.WarnContext(ctx, "heartbeat failed; others will take this instance for dead", "service", service, "instance", instance, "err", err)
		} else if err == nil && silent {
			r.log.InfoContext(ctx, "heartbeats succeed again", "service", service, "instance", instance)
		}
		silent = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r.withdraw(ctx, service, instance)
		}
	}
}

func (r *Registry) beat(ctx context.Context, service string, self Instance) error {
	said, err := json.Marshal(self)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.every)
	defer cancel()
	return announceScript.Run(ctx, r.rdb, []string{beatsKey(service), saidKey(service)}, self.Name, said, r.ttl.Milliseconds()).Err()
}

func (r *Registry) withdraw(ctx context.Context, service, instance string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.every)
	defer cancel()
	if err := withdrawScript.Run(ctx, r.rdb, []string{beatsKey(service), saidKey(service)}, instance).Err(); err != nil {
		// Not worth failing a shutdown: the heartbeat expires by itself.
		r.log.WarnContext(ctx, "instance not withdrawn; it counts as alive until its heartbeat expires", "service", service, "instance", instance, "err", err)
	}
	return nil
}

// List returns the live instances of service, those that drain among them,
// ordered by the expiry of their heartbeats.
func (r *Registry) List(ctx context.Context, service string) ([]Instance, error) {
	said, err := listScript.Run(ctx, r.rdb, []string{beatsKey(service), saidKey(service)}, forgetAfter).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("registry: list %s: %w", service, err)
	}
	live := make([]Instance, 0, len(said))
	for _, s := range said {
		var i Instance
		if err := json.Unmarshal([]byte(s), &i); err != nil {
			return nil, fmt.Errorf("registry: an instance of %s wrote what is not JSON: %w", service, err)
		}
		live = append(live, i)
	}
	return live, nil
}

// Alive says whether the heartbeat of instance is fresh. An error means that
// nobody knows, and is no reason to take the instance for dead.
func (r *Registry) Alive(ctx context.Context, service, instance string) (bool, error) {
	n, err := aliveScript.Run(ctx, r.rdb, []string{beatsKey(service)}, instance).Int()
	if err != nil {
		return false, fmt.Errorf("registry: heartbeat of %s %s: %w", service, instance, err)
	}
	return n == 1, nil
}
