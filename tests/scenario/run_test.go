package scenario

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/tests/deployment"
	"github.com/callmesh/callmesh/tests/sink"
)

// all are the scenarios that share one deployment.
func all() []scenario {
	var scenarios []scenario
	for _, some := range [][]scenario{dialogues(), digits(), signalling(), rest(), failures(), accounts(), foreign()} {
		scenarios = append(scenarios, some...)
	}
	return scenarios
}

// company is a deployment with one domain and application per scenario.
type company struct {
	deployment.Deployment
	apps    []*sink.Sink
	domains []deployment.Domain
}

// found starts the applications and the deployment that calls them.
func found(t *testing.T, scenarios []scenario, start func(deployment.Config) (deployment.Deployment, error)) *company {
	t.Helper()
	c := &company{}
	for i, sc := range scenarios {
		app, err := sink.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := app.Close(); err != nil {
				t.Error(err)
			}
		})
		d := deployment.Domain{
			Name:    strings.ToLower(sc.name) + ".callmesh.test",
			Numbers: []string{fmt.Sprintf("+4685%05d", i)},
			Key:     fmt.Sprintf("secret-of-%s", sc.name),
			Application: deployment.Application{
				URL: app.URL(), Alarms: app.Alarms(), AllowPrivate: true, Timeout: 2 * time.Second,
			},
		}
		if sc.application != nil {
			sc.application(&d.Application)
		}
		c.apps = append(c.apps, app)
		c.domains = append(c.domains, d)
	}
	dep, err := start(deployment.Config{Dir: t.TempDir(), Domains: c.domains})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := dep.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	c.Deployment = dep
	return c
}

// play runs the scenarios side by side: each has its own domain, number and
// application, as customers of one deployment have.
func (c *company) play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for i, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := &stage{
				T: t, Deployment: c, app: c.apps[i], domain: c.domains[i], neighbour: c.domains[(i+1)%len(c.domains)],
			}
			sc.play(s)
			if !t.Failed() && !s.unsettled {
				s.settle()
			}
			if t.Failed() {
				t.Logf("callbacks: %s", s.app.Summary())
			}
		})
	}
}

// TestAllInOne plays the scenarios on callmesh in one process.
func TestAllInOne(t *testing.T) {
	scenarios := all()
	c := found(t, scenarios, func(cfg deployment.Config) (deployment.Deployment, error) {
		return deployment.AllInOne(t.Context(), cfg)
	})
	c.play(t, scenarios)
}

// TestProcesses plays the same on the five daemons and a real redis-server.
func TestProcesses(t *testing.T) {
	scenarios := all()
	c := found(t, scenarios, func(cfg deployment.Config) (deployment.Deployment, error) {
		return processes(t, cfg)
	})
	c.play(t, scenarios)
}

// daemons builds the five once, for all tests of this package.
var daemons = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(os.TempDir(), fmt.Sprintf("callmesh-%d", os.Getpid()))
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return "", err
	}
	return bin, deployment.Build(context.Background(), "../..", bin)
})

// TestMain removes what daemons built, and sees to it that no goroutine is left
// of any deployment, phone or application.
func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("callmesh-%d", os.Getpid())))
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// processes starts them on a redis-server of their own.
func processes(t *testing.T, cfg deployment.Config) (*deployment.Processes, error) {
	t.Helper()
	bin, err := daemons()
	if err != nil {
		return nil, err
	}
	cfg.Redis = redistest.Start(t).URL()
	return deployment.StartProcesses(t.Context(), bin, cfg)
}
