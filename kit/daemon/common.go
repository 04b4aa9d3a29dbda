package daemon

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/telemetry"
)

// Common is what the configuration of every daemon has.
type Common struct {
	Mesh      Mesh             `yaml:"mesh"`
	Redis     Redis            `yaml:"redis"`
	Telemetry telemetry.Config `yaml:"telemetry"`
	// Ops serves metrics, health and profiles; keep it off the public network.
	Ops Ops `yaml:"ops"`
	// Grace is how long calls may go on after SIGTERM.
	Grace time.Duration `yaml:"grace"`
}

// Base returns itself: it makes every configuration that embeds Common a Config.
func (c Common) Base() Common { return c }

// Mesh says how this daemon and its peers find and trust each other.
type Mesh struct {
	// Listen is the host:port of this daemon's gRPC server.
	Listen string `yaml:"listen"`
	// Advertise is the host under which peers reach this instance.
	Advertise string `yaml:"advertise"`
	// Targets has the gRPC target of each service: dns:///mediad:9000.
	Targets map[string]string `yaml:"targets"`
	// Secret signs principals; the same in all daemons, 32 bytes or more.
	Secret string `yaml:"secret"`
	// TLS makes the mesh mutual TLS; empty = plain, for a private network.
	TLS TLS `yaml:"tls"`
	// Reflection shows the services to explorers such as grpcurl.
	Reflection bool `yaml:"reflection"`
}

// TLS names PEM files.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"`
}

// Redis says where hot state is kept.
type Redis struct {
	URL string `yaml:"url"`
}

// Ops is the operator's listener.
type Ops struct {
	Listen string `yaml:"listen"`
}

// CommonDefaults returns the defaults of Common.
func CommonDefaults() Common {
	return Common{
		Redis: Redis{URL: "redis://127.0.0.1:6379/0"}, Telemetry: telemetry.Config{Level: "info", Ratio: 1},
		Grace: 30 * time.Second,
	}
}

// Instance returns a name that no other instance has or had.
func Instance(service string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	b := make([]byte, 4)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	return strings.ReplaceAll(service+"-"+host, "/", "_") + "-" + hex.EncodeToString(b)
}

// network returns the mesh of a process of its own.
func (m Mesh) network(service string) (mesh.Network, []grpc.ServerOption, error) {
	n := mesh.Network{ListenOn: map[string]string{service: m.Listen}, Advertise: m.Advertise, Targets: m.Targets}
	if m.Listen == "" {
		return n, nil, errors.New("mesh.listen: is missing")
	}
	if m.TLS == (TLS{}) {
		return n, nil, nil
	}
	cfg, err := m.TLS.load()
	if err != nil {
		return n, nil, fmt.Errorf("mesh.tls: %w", err)
	}
	n.Creds = grpc.WithTransportCredentials(credentials.NewTLS(cfg))
	return n, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(cfg))}, nil
}

// load returns a configuration that shows our certificate and demands one of
// the same authority, in both directions.
func (t TLS) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", t.CA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}
