// Package deployment starts a whole callmesh for tests, benchmarks and trying
// out: in one process, or as the five daemons on a real redis-server.
package deployment

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Deployment is a running callmesh, whatever it is made of.
type Deployment interface {
	// SIP is host:port for UDP, SIPTCP the same for TCP.
	SIP() string
	SIPTCP() string
	// REST is the base URL of the gateway.
	REST() string
	// Stop drains and stops it.
	Stop(ctx context.Context) error
}

// Config is what a deployment serves.
type Config struct {
	// Dir keeps blobs, archive and logs.
	Dir     string
	Domains []Domain
	// Redis replaces the deployment's own.
	Redis string
	// MediaPorts is the range for RTP, as in "20000-20999".
	MediaPorts string
	// Quarantine is how long a port rests after a call; 5 s by default.
	Quarantine time.Duration
}

// Domain is one tenant of it.
type Domain struct {
	Name    string
	Numbers []string
	// Key is the secret of the domain's one API key.
	Key         string
	Application Application
}

// Application is where the domain's callbacks go.
type Application struct {
	URL          string
	Alarms       string
	AllowPrivate bool
	Timeout      time.Duration
	Fallback     Fallback
}

// Fallback is the emergency fallback.
type Fallback struct {
	Action, Prompt string
	Always         bool
}

// domainsYAML writes the domains as the configuration file has them.
func domainsYAML(domains []Domain) string {
	var b strings.Builder
	b.WriteString("domains:\n")
	for _, d := range domains {
		fmt.Fprintf(&b, "  - name: %s\n", d.Name)
		quoted := make([]string, len(d.Numbers))
		for i, n := range d.Numbers {
			quoted[i] = fmt.Sprintf("%q", n)
		}
		fmt.Fprintf(&b, "    numbers: [%s]\n", strings.Join(quoted, ", "))
		fmt.Fprintf(&b, "    keys: [{ id: %q, secret: %q, roles: [domain] }]\n", d.Name, d.Key)
		a := d.Application
		fmt.Fprintf(&b, "    application:\n      url: %q\n      allowPrivate: %t\n", a.URL, a.AllowPrivate)
		if a.Alarms != "" {
			fmt.Fprintf(&b, "      alarms: %q\n", a.Alarms)
		}
		if a.Timeout > 0 {
			fmt.Fprintf(&b, "      timeout: %s\n", a.Timeout)
		}
		if f := a.Fallback; f.Action != "" {
			fmt.Fprintf(&b, "      fallback: { action: %s, prompt: %q, always: %t }\n", f.Action, f.Prompt, f.Always)
		}
	}
	return b.String()
}
