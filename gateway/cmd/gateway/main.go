// Command gateway is the edge of the mesh as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
)

type config struct {
	daemon.Common `yaml:",inline"`
	REST          gateway.Config `yaml:"rest"`
}

func main() {
	daemon.Main("gateway", config{daemon.CommonDefaults(), gateway.Defaults()},
		func(c config, env daemon.Env) ([]run.Part, error) { return gateway.Parts(c.REST, env) })
}
