// Command sessiond owns sessions, as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/sessiond"
)

type config struct {
	daemon.Common   `yaml:",inline"`
	sessiond.Config `yaml:",inline"`
}

func main() {
	daemon.Main("sessiond", config{daemon.CommonDefaults(), sessiond.Defaults()},
		func(c config, env daemon.Env) ([]run.Part, error) { return sessiond.Parts(c.Config, env) })
}
