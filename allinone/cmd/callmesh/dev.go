package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/callmesh/callmesh/allinone"
	"github.com/callmesh/callmesh/examples/menu"
	"github.com/callmesh/callmesh/kit/conf"
	"github.com/callmesh/callmesh/sessiond"
)

// uploadTimeout bounds how long making and uploading the demo's prompts takes.
const uploadTimeout = time.Minute

// dev runs everything in this process until ctx ends. Without domains in the
// configuration it serves the demo menu, application included.
func dev(ctx context.Context, args []string, out, logs io.Writer) error {
	flags := flag.NewFlagSet("callmesh dev", flag.ContinueOnError)
	path := flags.String("config", "", "configuration `file` (YAML); see README.md")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	cfg, err := conf.Load(*path, os.Environ(), allinone.Defaults())
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Telemetry.Level)); err != nil {
		return fmt.Errorf("telemetry.level: %q is not debug, info, warn or error", cfg.Telemetry.Level)
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	demo := len(cfg.Domains) == 0
	if demo {
		url, stop, err := serveMenu(log)
		if err != nil {
			return err
		}
		defer stop()
		cfg.Domains = []sessiond.Domain{allinone.Demo(url)}
	}
	running, err := allinone.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	if demo {
		d := cfg.Domains[0]
		uploading, cancel := context.WithTimeout(ctx, uploadTimeout)
		err = menu.Upload(uploading, menu.Platform{URL: running.REST(), Key: d.Keys[0].Secret, Domain: d.Name})
		cancel()
		if err != nil {
			return errors.Join(fmt.Errorf("demo prompts: %w", err), running.Stop())
		}
	}
	greet(out, running, cfg)
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping; calls that are up have", cfg.Grace, "to end")
	case <-running.Done():
	}
	return running.Stop()
}

// serveMenu serves the demo application on a port of its own.
func serveMenu(log *slog.Logger) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("demo application: %w", err)
	}
	server := &http.Server{Handler: menu.New(menu.Options{Log: log.With("daemon", "menu")}), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the demo application failed", "err", err)
		}
	}()
	return "http://" + l.Addr().String(), func() { _ = server.Close(); <-done }, nil
}

// greet tells a newcomer what to do next.
func greet(out io.Writer, r *allinone.Running, cfg allinone.Config) {
	d := cfg.Domains[0]
	called := "anyone"
	if len(d.Numbers) > 0 {
		called = d.Numbers[0]
	}
	key := "YOUR-KEY"
	if len(d.Keys) > 0 {
		key = d.Keys[0].Secret
	}
	at := r.SIP("udp")
	if at == "" {
		at = r.SIP("tcp") + ";transport=tcp"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\ncallmesh is ready.\n\n")
	fmt.Fprintf(&b, "  call   sip:%s@%s with any SIP phone; no registration is needed\n", called, at)
	if tcp := r.SIP("tcp"); tcp != "" {
		fmt.Fprintf(&b, "  SIP    udp %s, tcp %s\n", r.SIP("udp"), tcp)
	}
	fmt.Fprintf(&b, "  REST   %s  (API explorer: %s/docs/)\n", r.REST(), r.REST())
	fmt.Fprintf(&b, "  key    %s, for the domain %s\n\n", key, d.Name)
	fmt.Fprintf(&b, "  curl -H 'Authorization: Bearer %s' %s/mediaservice/%s/promptfile\n", key, r.REST(), d.Name)
	fmt.Fprintf(&b, "  curl -H 'Authorization: Bearer %s' -T hello.wav %s/mediaservice/%s/promptfile/hello.wav\n", key, r.REST(), d.Name)
	fmt.Fprintf(&b, "  curl -H 'Authorization: Bearer %s' %s/calls/%s/sessions/TOKEN   # token: the log line \"call arrived\"\n\n", key, r.REST(), d.Name)
	if strings.HasPrefix(cfg.Redis.URL, "embedded:") {
		fmt.Fprintf(&b, "Live state is kept in an embedded Redis, which forgets at exit. Ctrl-C stops.\n\n")
	}
	_, _ = io.WriteString(out, b.String()) // nothing can be done about a closed terminal
}
