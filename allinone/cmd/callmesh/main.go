// Command callmesh is the platform in one process.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/callmesh/callmesh/kit/daemon"
)

const usage = `callmesh is a programmable-voice platform: calls arrive by SIP, your web
application decides what happens on them.

  callmesh dev [-config FILE]   run everything in this process; without a file
                                with a demo menu to call
  callmesh version              print the version
  callmesh help                 print this text
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func command(ctx context.Context, args []string) (exit int) {
	verb := "help"
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "dev":
		if err := dev(ctx, args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "callmesh:", err)
			return 1
		}
	case "version":
		fmt.Println("callmesh", daemon.Version())
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "callmesh: unknown command %q\n\n%s", verb, usage)
		return 2
	}
	return 0
}
