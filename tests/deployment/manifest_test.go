package deployment

import (
	"path/filepath"
	"testing"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/conf"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/recordingd"
	"github.com/callmesh/callmesh/sessiond"
)

// The environment of the Kubernetes manifests, and what it must set.
var environ = []string{
	"CALLMESH_MESH_ADVERTISE=10.1.2.3", "CALLMESH_MESH_SECRET=mesh", "CALLMESH_REDIS_URL=redis://redis:6379/0",
	"CALLMESH_SIP_ADVERTISE=10.1.2.3", "CALLMESH_SECRET=secret", "CALLMESH_ARCHIVE_URL=postgres://db/callmesh",
	"CALLMESH_MEDIA_ADVERTISE=10.1.2.3", `CALLMESH_DOMAINS=[{ name: demo.callmesh.test, numbers: ["1000"] }]`,
}

// TestManifestConfigurations: the daemons take the files that the manifests
// mount, with the variables that they set.
func TestManifestConfigurations(t *testing.T) {
	s := load(t, "sessiond", struct {
		daemon.Common   `yaml:",inline"`
		sessiond.Config `yaml:",inline"`
	}{daemon.CommonDefaults(), sessiond.Defaults()})
	if s.Mesh.Advertise != "10.1.2.3" || s.Mesh.Secret != "mesh" || s.Redis.URL != "redis://redis:6379/0" || s.Secret != "secret" ||
		s.SIP.Advertise != "10.1.2.3" || s.Archive.URL != "postgres://db/callmesh" || len(s.Domains) != 1 || s.Domains[0].Numbers[0] != "1000" {
		t.Errorf("sessiond: %+v", s)
	}
	m := load(t, "mediad", struct {
		daemon.Common `yaml:",inline"`
		Media         mediad.Config `yaml:"media"`
	}{daemon.CommonDefaults(), mediad.Defaults()})
	if m.Media.Advertise != "10.1.2.3" || m.Media.Listen != "0.0.0.0" {
		t.Errorf("mediad: %+v", m.Media)
	}
	g := load(t, "gateway", struct {
		daemon.Common `yaml:",inline"`
		REST          gateway.Config `yaml:"rest"`
	}{daemon.CommonDefaults(), gateway.Defaults()})
	if g.REST.Listen != "0.0.0.0:8080" || g.Mesh.Targets["sessiond"] == "" {
		t.Errorf("gateway: %+v", g)
	}
	load(t, "recordingd", struct {
		daemon.Common     `yaml:",inline"`
		recordingd.Config `yaml:",inline"`
	}{daemon.CommonDefaults(), recordingd.Defaults()})
	load(t, "ivrd", struct {
		daemon.Common `yaml:",inline"`
		IVR           ivrd.Config `yaml:"ivr"`
	}{daemon.CommonDefaults(), ivrd.Defaults()})
}

func load[T any](t *testing.T, name string, defaults T) T {
	t.Helper()
	cfg, err := conf.Load(filepath.Join("..", "..", "deploy", "k8s", "base", "config", name+".yaml"), environ, defaults)
	if err != nil {
		t.Error(err)
	}
	return cfg
}
