package deployment

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/callmesh/callmesh/allinone"
	"github.com/callmesh/callmesh/kit/conf"
)

// oneProcess is the all-in-one within this process.
type oneProcess struct {
	running *allinone.Running
	log     *os.File
}

// AllInOne starts callmesh in this process. Its log goes to Dir.
func AllInOne(ctx context.Context, cfg Config) (Deployment, error) {
	redis := cfg.Redis
	if redis == "" {
		redis = "embedded:"
	}
	text := fmt.Sprintf(`rest: { listen: "127.0.0.1:0" }
sip: { listen: ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"], advertise: "127.0.0.1" }
media: { listen: "127.0.0.1", advertise: "127.0.0.1", ports: %q, quarantine: %s }
redis: { url: %q }
blob: { url: "file:%s/blob" }
archive: { url: "sqlite:%s/archive.db" }
journal: { dir: "%s/journal" }
secret: "the secret of a deployment for tests"
`, cfg.mediaPorts(), cfg.quarantine(), redis, cfg.Dir, cfg.Dir, cfg.Dir) + domainsYAML(cfg.Domains)
	path := filepath.Join(cfg.Dir, "callmesh.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	loaded, err := conf.Load(path, nil, allinone.Defaults())
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(cfg.Dir, "callmesh.log"))
	if err != nil {
		return nil, err
	}
	handler := slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})
	running, err := allinone.Start(ctx, loaded, slog.New(handler))
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	return &oneProcess{running: running, log: log}, nil
}

func (o *oneProcess) SIP() string    { return o.running.SIP("udp") }
func (o *oneProcess) SIPTCP() string { return o.running.SIP("tcp") }
func (o *oneProcess) REST() string   { return o.running.REST() }

func (o *oneProcess) Stop(context.Context) error {
	err := o.running.Stop()
	_ = o.log.Close()
	return err
}
