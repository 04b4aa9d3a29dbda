// Command mediad holds RTP legs, as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/mediad"
)

type config struct {
	daemon.Common `yaml:",inline"`
	Media         mediad.Config `yaml:"media"`
}

func main() {
	daemon.Main(mediad.Service, config{daemon.CommonDefaults(), mediad.Defaults()},
		func(c config, env daemon.Env) ([]run.Part, error) { return mediad.Parts(c.Media, env) })
}
