package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
)

// TestDev runs what a newcomer runs, `callmesh dev`, and calls the demo menu.
func TestDev(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "callmesh")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./allinone/cmd/callmesh")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, "dev")
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "CALLMESH_REST_LISTEN=127.0.0.1:0", `CALLMESH_SIP_LISTEN=["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	uri, err := greeting(out)
	if err != nil {
		t.Fatal(err)
	}
	callTheMenu(ctx, t, uri)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out) // until it ends
	if err := cmd.Wait(); err != nil {
		t.Errorf("callmesh dev: %v", err)
	}
}

// greeting reads what dev prints up to the URI to call.
func greeting(out io.Reader) (string, error) {
	call := regexp.MustCompile(`sip:1000@127\.0\.0\.1:\d+`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if uri := call.FindString(lines.Text()); uri != "" {
			return uri, nil
		}
	}
	return "", errors.Join(errors.New("no URI to call was printed"), lines.Err())
}

func callTheMenu(ctx context.Context, t *testing.T, uri string) {
	t.Helper()
	p, err := phone.New(phone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	c, err := p.Dial(uri, phone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answered(ctx); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"welcome", "opening hours"} {
		asked := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		for !c.Audio.LastLoud().After(asked) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("nothing heard of %s: %s", step, c.Audio.Summary())
			}
		}
		tick.Stop()
		if step == "welcome" {
			if _, err := c.Audio.Press(ctx, "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := c.Audio.Press(ctx, "9"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ended(ctx); err != nil {
		t.Fatal(fmt.Errorf("9 must end the call: %w", err))
	}
	for _, v := range p.Violations() {
		t.Error(v)
	}
}
