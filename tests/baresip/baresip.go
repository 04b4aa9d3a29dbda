// Package baresip drives baresip, a foreign softphone, without sound hardware:
// it speaks a file, and what it hears is read from the file it writes.
package baresip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
)

// Caller is a running baresip that has dialled.
type Caller struct {
	dir   string
	cmd   *exec.Cmd
	keys  io.WriteCloser
	lines sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{}
	output  []string
}

// config uses the modules of Debian's baresip-core. aubridge stands in for the
// loudspeaker, sndfile writes down what passes on the way there.
const config = `poll_method epoll
sip_listen 127.0.0.1:0
call_max_calls 1
audio_source aufile,%[1]s/speech.wav
audio_player aubridge,heard
audio_alert none
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 10000-19999
snd_path %[1]s
module_path %[2]s
module stdio.so
module g711.so
module aufile.so
module sndfile.so
module aubridge.so
module_tmp account.so
module_app menu.so
`

// modulePath finds Debian's module directory.
func modulePath() (string, error) {
	for _, pattern := range []string{"/usr/lib/baresip/modules", "/usr/lib/*/baresip/modules"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("no baresip modules: apt-get install baresip-core")
}

// Dial starts baresip in dir and calls uri, speaking a tone.
func Dial(ctx context.Context, dir, uri string, speech float64) (*Caller, error) {
	program, err := exec.LookPath("baresip")
	if err != nil {
		return nil, errors.New("baresip is missing: apt-get install baresip-core")
	}
	modules, err := modulePath()
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"config":     fmt.Sprintf(config, dir, modules),
		"accounts":   "<sip:baresip@127.0.0.1>;regint=0;audio_codecs=pcma,pcmu\n",
		"contacts":   "",
		"speech.wav": string(phone.WAV(phone.Tone(speech, time.Minute))),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	c := &Caller{dir: dir, changed: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, program, "-f", dir, "-t", "120", "-e", "/dial "+uri)
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(os.Interrupt) }
	c.cmd.WaitDelay = 5 * time.Second
	if c.keys, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.lines.Go(func() { c.read(out) })
	return c, nil
}

func (c *Caller) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		c.mu.Lock()
		c.output = append(c.output, lines.Text())
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, out) // never block baresip on an overlong line
}

// Says waits until baresip prints the text.
func (c *Caller) Says(ctx context.Context, text string) error {
	for {
		c.mu.Lock()
		output, changed := strings.Join(c.output, "\n"), c.changed
		c.mu.Unlock()
		if strings.Contains(output, text) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("baresip never said %q: %w\n%s", text, ctx.Err(), output)
		}
	}
}

// Press presses one key of the phone.
func (c *Caller) Press(key rune) error {
	_, err := fmt.Fprintf(c.keys, "%c", key)
	return err
}

// Quit ends baresip and returns all samples it heard.
func (c *Caller) Quit() ([]int16, error) {
	if _, err := io.WriteString(c.keys, "q"); err != nil {
		return nil, err
	}
	c.lines.Wait()
	if err := c.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("baresip: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(c.dir, "dump-*-dec.wav"))
	if err != nil || len(files) == 0 {
		return nil, errors.New("baresip heard nothing")
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	return phone.ReadWAV(data)
}
