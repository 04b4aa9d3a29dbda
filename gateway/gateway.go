// Package gateway is the edge of the mesh: REST in, gRPC out. It knows who asks
// and how the REST families look, and nothing of calls.
package gateway

import (
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/callmesh/callmesh/gateway/internal/edge"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
)

// Config of the gateway.
type Config struct {
	// Listen is the host:port of the REST API.
	Listen string `yaml:"listen"`
	// PublicURL is where clients reach us, for the API's description; empty =
	// where their request went.
	PublicURL string `yaml:"publicUrl"`
	Limits    Limits `yaml:"limits"`
	// Listener is used instead of Listen: a test hands in the port it was given.
	Listener net.Listener `yaml:"-"`
}

// Limits bound what one client may take.
type Limits struct {
	HeaderBytes int   `yaml:"headerBytes"`
	BodyBytes   int64 `yaml:"bodyBytes"`
	// PromptBytes is the largest prompt file.
	PromptBytes int64 `yaml:"promptBytes"`
	// HeaderTimeout and BodyTimeout bound how long a request may take to
	// arrive, WriteTimeout the answer. A prompt file may take longer, as long as
	// each piece keeps to them.
	HeaderTimeout time.Duration `yaml:"headerTimeout"`
	BodyTimeout   time.Duration `yaml:"bodyTimeout"`
	WriteTimeout  time.Duration `yaml:"writeTimeout"`
	IdleTimeout   time.Duration `yaml:"idleTimeout"`
}

// Defaults returns the configuration for trying out.
func Defaults() Config {
	return Config{
		Listen: "127.0.0.1:8080",
		Limits: Limits{
			HeaderBytes: 16 << 10, BodyBytes: 1 << 20, PromptBytes: 32 << 20,
			HeaderTimeout: 10 * time.Second, BodyTimeout: 30 * time.Second,
			WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		},
	}
}

func (c Config) check() (public *url.URL, err error) {
	l := c.Limits
	if l.HeaderBytes <= 0 || l.BodyBytes <= 0 || l.PromptBytes <= 0 ||
		l.HeaderTimeout <= 0 || l.BodyTimeout <= 0 || l.WriteTimeout <= 0 || l.IdleTimeout <= 0 {
		return nil, fmt.Errorf("limits: every limit must be above zero")
	}
	if c.PublicURL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("publicUrl: %q is not an http or https URL", c.PublicURL)
	}
	return u, nil
}

// Parts returns the gateway as parts of a process.
func Parts(cfg Config, env daemon.Env) ([]run.Part, error) {
	public, err := cfg.check()
	if err != nil {
		return nil, err
	}
	dialer := env.Dialer()
	sessiond, err := dialer.Service("sessiond")
	if err != nil {
		return nil, err
	}
	recordingd, err := dialer.Service("recordingd")
	if err != nil {
		return nil, err
	}
	server, err := edge.New(edge.Options{
		Listen: cfg.Listen, Listener: cfg.Listener, PublicURL: public, Limits: edge.Limits(cfg.Limits),
		Sessiond: sessiond, Recordingd: recordingd, Log: env.Log, Metrics: env.Metrics, Now: env.Now,
	})
	if err != nil {
		return nil, err
	}
	// The gRPC server has health and reflection alone, as on every daemon.
	return []run.Part{{Name: "gateway peers", Stop: dialer.Close}, env.Server().Part(), server.Part()}, nil
}
