// Command recordingd keeps recordings and prompts, as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/recordingd"
)

type config struct {
	daemon.Common     `yaml:",inline"`
	recordingd.Config `yaml:",inline"`
}

func main() {
	daemon.Main("recordingd", config{daemon.CommonDefaults(), recordingd.Defaults()},
		func(c config, env daemon.Env) ([]run.Part, error) { return recordingd.Parts(c.Config, env) })
}
