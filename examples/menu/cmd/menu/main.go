// Command menu serves the telephone menu to a callmesh, after uploading its
// prompts there if it is told where.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/callmesh/callmesh/examples/menu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "menu:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	var platform menu.Platform
	listen := flag.String("listen", "127.0.0.1:9000", "`address` that callmesh's callbacks go to")
	flag.StringVar(&platform.URL, "callmesh", "", "REST `URL` of callmesh; the prompts are uploaded there")
	flag.StringVar(&platform.Key, "key", "demo-secret", "API key of the domain")
	flag.StringVar(&platform.Domain, "domain", "demo.callmesh.test", "domain that the prompts belong to")
	flag.Parse()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: menu.New(menu.Options{Log: log}), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	log.InfoContext(ctx, "waiting for calls", "address", l.Addr().String())

	if platform.URL != "" {
		patience, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := menu.Upload(patience, platform); err != nil {
			return errors.Join(err, server.Close())
		}
		log.InfoContext(ctx, "prompts uploaded", "domain", platform.Domain)
	}
	select {
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(grace)
	case err := <-failed:
		return err
	}
}
