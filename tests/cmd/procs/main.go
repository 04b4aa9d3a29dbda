// Command procs runs callmesh as five processes on a redis-server of its own,
// with the demo menu to call, until it is interrupted. Run it at the top of the
// repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/callmesh/callmesh/examples/menu"
	"github.com/callmesh/callmesh/tests/deployment"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "procs:", err)
		os.Exit(1)
	}
}

const (
	domain = "demo.callmesh.test"
	number = "1000"
	key    = "demo-secret"
)

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "callmesh-procs")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays in the temporary directory is no failure
	fmt.Println("building the five daemons")
	if err := deployment.Build(ctx, ".", dir); err != nil {
		return err
	}
	redis, endRedis, err := startRedis(ctx, dir)
	if err != nil {
		return err
	}
	defer endRedis()
	application, endApplication, err := serveMenu()
	if err != nil {
		return err
	}
	defer endApplication()
	p, err := deployment.StartProcesses(ctx, dir, deployment.Config{
		Dir: dir, Redis: redis, MediaPorts: "20000-29999",
		Domains: []deployment.Domain{{
			Name: domain, Numbers: []string{number}, Key: key,
			Application: deployment.Application{URL: application, Alarms: application + "/alarms", AllowPrivate: true},
		}},
	})
	if err != nil {
		return err
	}
	err = menu.Upload(ctx, menu.Platform{URL: p.REST(), Key: key, Domain: domain})
	if err == nil {
		fmt.Printf("\n  call   sip:%s@%s\n  REST   %s  (API explorer: %s/docs/)\n  key    %s, for the domain %s\n  logs   %s/*.log\n\nCtrl-C stops.\n",
			number, p.SIP(), p.REST(), p.REST(), key, domain, dir)
		<-ctx.Done()
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(err, p.Stop(grace))
}

// startRedis runs a redis-server on a socket in dir.
func startRedis(ctx context.Context, dir string) (string, func(), error) {
	socket := filepath.Join(dir, "redis.sock")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--appendonly", "yes", "--loglevel", "warning")
	// A process group of its own: Ctrl-C must end the daemons before their Redis.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("redis-server: %w (apt-get install redis-server)", err)
	}
	end := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return "unix://" + socket, end, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			end()
			return "", nil, fmt.Errorf("redis-server does not start: %w", ctx.Err())
		}
	}
}

// serveMenu serves the demo application.
func serveMenu() (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{
		Handler: menu.New(menu.Options{Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}), ReadHeaderTimeout: 5 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with the process, by Close
	}()
	return "http://" + l.Addr().String(), func() { _ = server.Close(); <-done }, nil
}
