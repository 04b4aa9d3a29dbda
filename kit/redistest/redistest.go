// Package redistest gives a test the Redis it needs: in this process, as a real
// server on a socket of its own, or as a cluster of three masters.
package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/redisx"
)

// Each runs contract as a subtest over each kind of Redis: miniredis, a real
// server, and a cluster of three masters, as only a cluster notices a script
// that reaches into two slots. Each starts with an empty store.
func Each(t *testing.T, contract func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) { contract(t, Mini(t)) })
	t.Run("server", func(t *testing.T) { contract(t, Start(t).Client()) })
	t.Run("cluster", func(t *testing.T) { contract(t, StartCluster(t).Client()) })
}

// Mini returns a client of a miniredis whose expiries follow the clock. It uses
// no socket, so that it works in a testing/synctest bubble too.
func Mini(t testing.TB) *redis.Client {
	t.Helper()
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true)
	client := redis.NewClient(redisx.Tune(&redis.Options{
		Addr:   "miniredis",
		Dialer: redisx.Dialer(server),
	}))
	t.Cleanup(func() {
		_ = client.Close()
		server.Close()
	})
	return client
}

// Server is a redis-server process.
type Server struct {
	t       testing.TB
	dir     string
	args    []string
	process *exec.Cmd
	client  *redis.Client
}

// Start runs redis-server on a socket in a folder of its own, so that tests
// share neither a port nor a database, and ends it with the test. More arguments
// go to redis-server, such as "--appendonly", "yes".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: folder(t)}
	s.args = append([]string{
		"--port", "0", "--unixsocket", s.Socket(),
		"--save", "", "--dir", s.dir, "--loglevel", "warning",
	}, args...)
	s.client = redis.NewClient(redisx.Tune(&redis.Options{Network: "unix", Addr: s.Socket()}))
	t.Cleanup(func() {
		_ = s.client.Close()
		s.Kill()
	})
	s.run()
	return s
}

// Socket is the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// URL opens the server with redisx.Open.
func (s *Server) URL() string { return "unix://" + s.Socket() }

// Client returns a client that is closed with the test.
func (s *Server) Client() *redis.Client { return s.client }

// Kill ends the server at once, as a power cut would. It may be called twice.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

// Restart starts a killed server again. What it knows then depends on the
// arguments it was started with; by default nothing.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.run()
}

// Pause stops the server in its tracks: connections stay open, nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("redistest: the server is not running")
	}
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

func (s *Server) run() {
	s.t.Helper()
	s.process = spawn(s.t, s.dir, s.args)
	await(s.t, "redis-server did not answer", func(ctx context.Context) error { return s.client.Ping(ctx).Err() })
}

// folder is a short one: t.TempDir is too long a path for a socket (108 bytes).
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // t.TempDir is too long a path for a socket, see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// spawn starts redis-server with its output in dir/log.
func spawn(t testing.TB, dir string, args []string) *exec.Cmd {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server")
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	process := exec.Command(bin, args...)
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = endWithParent()
	if err := process.Start(); err != nil {
		t.Fatalf("redis-server: %v", err)
	}
	return process
}

// patience covers a start on a machine that is busy with other tests.
const patience = 20 * time.Second

// await polls ready until it succeeds. A foreign process gives no other sign.
func await(t testing.TB, complaint string, ready func(context.Context) error) {
	t.Helper()
	if err := poll(ready); err != nil {
		t.Fatalf("redistest: %s within %s: %v", complaint, patience, err)
	}
}

func poll(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
