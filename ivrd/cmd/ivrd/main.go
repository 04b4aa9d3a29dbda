// Command ivrd runs IVR dialogues, as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
)

type config struct {
	daemon.Common `yaml:",inline"`
	IVR           ivrd.Config `yaml:"ivr"`
}

func main() {
	daemon.Main("ivrd", config{daemon.CommonDefaults(), ivrd.Defaults()},
		func(c config, env daemon.Env) ([]run.Part, error) { return ivrd.Parts(c.IVR, env) })
}
