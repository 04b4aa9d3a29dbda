package allinone

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/telemetry"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/recordingd"
	"github.com/callmesh/callmesh/sessiond"
)

// Config of the all-in-one: the configurations of the five daemons in one file.
type Config struct {
	REST            gateway.Config `yaml:"rest"`
	Media           mediad.Config  `yaml:"media"`
	IVR             ivrd.Config    `yaml:"ivr"`
	sessiond.Config `yaml:",inline"`
	Recording       recordingd.Config `yaml:",inline"`
	Redis           daemon.Redis      `yaml:"redis"`
	Telemetry       telemetry.Config  `yaml:"telemetry"`
	Ops             daemon.Ops        `yaml:"ops"`
	// Grace is how long calls may go on after SIGTERM.
	Grace time.Duration `yaml:"grace"`
}

// Defaults returns a configuration that runs without a file: everything on
// loopback, nothing needed but this process.
func Defaults() Config {
	return Config{
		REST: gateway.Defaults(), Media: mediad.Defaults(), IVR: ivrd.Defaults(), Config: sessiond.Defaults(),
		Recording: recordingd.Defaults(), Redis: daemon.Redis{URL: "embedded:"},
		Telemetry: telemetry.Config{Level: "info", Ratio: 1}, Grace: 5 * time.Second,
	}
}

// Demo is the domain that `callmesh dev` serves when none is configured.
func Demo(application string) sessiond.Domain {
	return sessiond.Domain{
		Name: "demo.callmesh.test", Numbers: []string{"1000"},
		Application: sessiond.Application{URL: application, Alarms: application + "/alarms", AllowPrivate: true},
		Keys:        []sessiond.Key{{ID: "demo", Secret: "demo-secret", Roles: []string{"domain"}}},
	}
}

// secret returns a secret for a process whose operator gave none: state in the
// embedded Redis dies with it anyway.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	return hex.EncodeToString(b)
}
