// Command recordingd keeps prompts as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/recordingd"
)

func main() {
	daemon.Main("recordingd", recordingd.Defaults(), recordingd.Parts)
}
