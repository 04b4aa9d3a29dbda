// Command gateway is the edge of the mesh as a process of its own.
package main

import (
	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/kit/daemon"
)

func main() {
	daemon.Main("gateway", gateway.Defaults(), gateway.Parts)
}
