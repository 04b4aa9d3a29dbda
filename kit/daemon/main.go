package daemon

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/conf"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/redisx"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/kit/telemetry"
)

// Config is a daemon's configuration: a struct that embeds Common.
type Config interface{ Base() Common }

// Main is the main function of a daemon: it reads flags and configuration,
// runs the parts until SIGTERM or SIGINT, and exits with 1 after a failure.
func Main[C Config](service string, defaults C, parts func(C, Env) ([]run.Part, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, service, os.Args[1:], defaults, parts)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", service, err)
		os.Exit(1)
	}
}

func serve[C Config](ctx context.Context, service string, args []string, defaults C, parts func(C, Env) ([]run.Part, error)) error {
	flags := flag.NewFlagSet(service, flag.ContinueOnError)
	path := flags.String("config", "", "configuration `file` (YAML)")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version {
		fmt.Println(service, Version())
		return nil
	}
	cfg, err := conf.Load(*path, os.Environ(), defaults)
	if err != nil {
		return err
	}
	return runDaemon(ctx, service, cfg, parts)
}

func runDaemon[C Config](ctx context.Context, service string, cfg C, parts func(C, Env) ([]run.Part, error)) error {
	base := cfg.Base()
	log, err := telemetry.Logger(os.Stdout, base.Telemetry, service)
	if err != nil {
		return err
	}
	flush, err := telemetry.Traces(ctx, base.Telemetry, service)
	if err != nil {
		return err
	}
	defer func() { _ = flush(context.WithoutCancel(ctx)) }() // a lost span is no failure of the daemon
	signer, err := principal.NewSigner([]byte(base.Mesh.Secret), time.Now)
	if err != nil {
		return fmt.Errorf("mesh.secret: %w", err)
	}
	network, creds, err := base.Mesh.network(service)
	if err != nil {
		return err
	}
	rdb, closeRedis, err := redisx.Open(ctx, base.Redis.URL)
	if err != nil {
		return err
	}
	metrics := telemetry.Registry()
	all, err := parts(cfg, Env{
		Service: service, Instance: Instance(service), Mesh: network, Creds: creds, Signer: signer, Log: log,
		Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"daemon": service}, metrics),
		Redis:   rdb, Reflection: base.Mesh.Reflection, Now: time.Now,
	})
	if err != nil {
		_ = closeRedis()
		return err
	}
	ops := &Operations{Listen: base.Ops.Listen, Metrics: metrics}
	all = append([]run.Part{
		{Name: "redis", Stop: func(context.Context) error { return closeRedis() }},
		ops.Part(),
	}, all...)
	return run.All(ctx, log, base.Grace, func() {
		ops.Ready()
		log.InfoContext(ctx, "ready", "version", Version())
	}, all...)
}

// Version returns the version that the binary was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}
