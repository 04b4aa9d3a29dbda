// Package sipp runs our scenarios for SIPp, a foreign SIP implementation,
// against a callmesh or any other user agent.
package sipp

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed *.xml
var scenarios embed.FS

// Scenarios are the names that Run knows.
var Scenarios = []string{"ivr", "lateoffer", "cancel", "hold", "retransmit", "malformed", "extension"}

// Options change a run.
type Options struct {
	// Dir takes the scenario and SIPp's logs.
	Dir string
	// Calls and Rate make it a load; one call by default.
	Calls, Rate int
	TCP         bool
}

// Run plays a scenario against user at target (host:port). An error holds the
// end of what SIPp logged.
func Run(ctx context.Context, name, user, target string, o Options) error {
	program, err := exec.LookPath("sipp")
	if err != nil {
		return errors.New("sipp is missing: apt-get install sip-tester")
	}
	text, err := scenarios.ReadFile(name + ".xml")
	if err != nil {
		return fmt.Errorf("scenario: %w", err)
	}
	file := filepath.Join(o.Dir, name+".xml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	media, err := mediaPort()
	if err != nil {
		return err
	}
	calls, rate := max(o.Calls, 1), max(o.Rate, 1)
	args := []string{
		target, "-sf", name + ".xml", "-s", user, "-i", "127.0.0.1", "-mp", strconv.Itoa(media),
		"-m", strconv.Itoa(calls), "-r", strconv.Itoa(rate), "-nostdin", "-trace_err", "-error_file", name + ".errors",
		"-recv_timeout", "15000", "-timeout", "60s", "-timeout_error",
	}
	if o.TCP {
		args = append(args, "-t", "t1")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = o.Dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		logged, _ := os.ReadFile(filepath.Join(o.Dir, name+".errors")) // absent when SIPp logged nothing
		return fmt.Errorf("sipp %s: %w\n%s", name, err, end(string(logged), 30)+end(out.String(), 10))
	}
	return nil
}

// mediaPort finds an even port that SIPp may announce for RTP. SIPp sends from
// it by raw socket, so nothing else has to be bound to it for long.
func mediaPort() (int, error) {
	for range 50 {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := conn.LocalAddr().(*net.UDPAddr).Port
		if err := conn.Close(); err != nil {
			return 0, err
		}
		if port%2 == 0 {
			return port, nil
		}
	}
	return 0, errors.New("no even port")
}

func end(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n") + "\n"
}
