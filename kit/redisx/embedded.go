package redisx

import (
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// embedded holds the servers of this process by name. It is the one global of
// the kit: the five daemons of an all-in-one process are wired apart from one
// another, each with its own URL, and must yet meet in one store.
var embedded = struct {
	sync.Mutex
	servers map[string]*embeddedServer
}{servers: map[string]*embeddedServer{}}

type embeddedServer struct {
	redis *miniredis.Miniredis
	users int
	stop  chan struct{}
	done  chan struct{}
}

// clockStep is how coarsely an embedded server ages its keys. Each step visits
// and sorts all keys, and no expiry of ours is below some seconds.
const clockStep = time.Second

func openEmbedded(name string) (redis.UniversalClient, func() error) {
	embedded.Lock()
	defer embedded.Unlock()
	s := embedded.servers[name]
	if s == nil {
		s = &embeddedServer{
			redis: miniredis.NewMiniRedis(),
			stop:  make(chan struct{}),
			done:  make(chan struct{}),
		}
		embedded.servers[name] = s
		go s.age()
	}
	s.users++
	client := redis.NewClient(Tune(&redis.Options{
		// Shown in errors; nothing listens there.
		Addr: "embedded:" + name,
		// A pipe, not a port: other users of the machine cannot reach the store.
		Dialer: Dialer(s.redis),
	}))
	closer := sync.OnceValue(func() error {
		err := client.Close()
		s.release(name)
		return err
	})
	return client, closer
}

func (s *embeddedServer) release(name string) {
	embedded.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(embedded.servers, name)
	}
	embedded.Unlock()
	if last {
		close(s.stop)
		<-s.done
		s.redis.Close()
	}
}

// age moves the server's expiries along with time, which miniredis does not do
// by itself.
func (s *embeddedServer) age() {
	defer close(s.done)
	tick := time.NewTicker(clockStep)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.redis.FastForward(now.Sub(last))
			last = now
		}
	}
}
