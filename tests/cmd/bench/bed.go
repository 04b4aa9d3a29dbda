package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/callmesh/callmesh/tests/sink"
)

// bed is what the measurements lie on: callmesh pinned to core 1, a
// redis-server and the application on core 0.
type bed struct {
	dir      string
	callmesh *exec.Cmd
	redis    *exec.Cmd
	app      *sink.Sink
	sip      string
	rest     string
}

const (
	domain      = "bench.callmesh.test"
	key         = "bench-secret"
	shortPrompt = "three.wav"
	longPrompt  = "long.wav"
)

func start(ctx context.Context) (*bed, error) {
	dir, err := os.MkdirTemp("", "callmesh-bench")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir}
	for _, step := range []func(context.Context) error{b.build, b.startRedis, b.startApp, b.startCallmesh, b.upload} {
		if err := step(ctx); err != nil {
			b.stop()
			return nil, err
		}
	}
	return b, nil
}

func (b *bed) build(ctx context.Context) error {
	for _, tool := range []string{"sipp", "redis-server", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: apt-get install sip-tester redis-server util-linux", tool)
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, "callmesh"), "./allinone/cmd/callmesh")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

func (b *bed) startRedis(ctx context.Context) error {
	b.redis = exec.Command("taskset", "-c", "0", "redis-server", "--port", "0", "--unixsocket", b.socket(), "--save", "", "--dir", b.dir)
	if err := b.redis.Start(); err != nil {
		return err
	}
	return poll(ctx, "redis-server", func() bool { _, err := os.Stat(b.socket()); return err == nil })
}

func (b *bed) socket() string { return filepath.Join(b.dir, "redis") }

func (b *bed) startApp(context.Context) (err error) {
	b.app, err = sink.Start()
	if err != nil {
		return err
	}
	b.app.Script("newCall", sink.IVR())
	return nil
}

const configuration = `
rest:    { listen: "127.0.0.1:0" }
sip:     { listen: ["udp:127.0.0.1:0"], sourceRate: 1000000 }
media:   { listen: "127.0.0.1", ports: "20000-32767" }
redis:   { url: "unix://%s" }
blob:    { url: "file:%s/blob" }
archive: { url: "sqlite:%s/archive.db" }
journal: { dir: "%s/journal" }
calls:   { rtpTimeout: 0s }
secret:  "0123456789abcdef0123456789abcdef"
telemetry: { level: info }
domains:
  - name: %s
    numbers: ["1000"]
    application: { url: "%s", allowPrivate: true }
    keys: [{ id: bench, secret: %s, roles: [domain] }]
`

func (b *bed) startCallmesh(ctx context.Context) error {
	file := filepath.Join(b.dir, "callmesh.yaml")
	text := fmt.Sprintf(configuration, b.socket(), b.dir, b.dir, b.dir, domain, b.app.URL(), key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	b.callmesh = exec.Command("taskset", "-c", "1", filepath.Join(b.dir, "callmesh"), "dev", "-config", file)
	b.callmesh.Env = append(os.Environ(), "GOMAXPROCS=1")
	b.callmesh.Stderr = log
	b.callmesh.Dir = b.dir
	var out lockedBuffer
	b.callmesh.Stdout = &out
	if err := b.callmesh.Start(); err != nil {
		return err
	}
	if err := poll(ctx, "callmesh", func() bool { return strings.Contains(out.String(), "is ready") }); err != nil {
		logged, _ := os.ReadFile(log.Name()) // it may be empty
		return fmt.Errorf("%w\n%s", err, logged)
	}
	b.sip = regexp.MustCompile(`@(127\.0\.0\.1:\d+)`).FindStringSubmatch(out.String())[1]
	b.rest = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(out.String())
	return nil
}

func (b *bed) upload(ctx context.Context) error {
	for name, seconds := range map[string]int{shortPrompt: 3, longPrompt: 30} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, b.rest+"/mediaservice/"+domain+"/promptfile/"+name, bytes.NewReader(wav(seconds)))
		if err != nil {
			return err
		}
		if err := b.do(req, http.DefaultClient); err != nil {
			return fmt.Errorf("upload: %w", err)
		}
	}
	return nil
}

func (b *bed) do(req *http.Request, client *http.Client) error {
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

var complaint = regexp.MustCompile(`level=(?:WARN|ERROR) msg=("[^"]*"|\S+).*? (?:err|error)=("[^"]*"|\S+)`)

// complaints counts what callmesh has logged as wrong so far.
func (b *bed) complaints() string {
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		return err.Error()
	}
	counts := map[string]int{}
	for _, m := range complaint.FindAllStringSubmatch(string(text), -1) {
		counts[m[1]+" "+m[2]]++
	}
	var out strings.Builder
	for what, n := range counts {
		fmt.Fprintf(&out, "  %d x %s\n", n, what)
	}
	return out.String()
}

// stop ends what start began, by their own processes.
func (b *bed) stop() {
	for _, p := range []*exec.Cmd{b.callmesh, b.redis} {
		if p != nil && p.Process != nil {
			_ = p.Process.Signal(os.Interrupt)
			_ = p.Wait()
		}
	}
	if b.app != nil {
		_ = b.app.Close()
	}
	_ = os.RemoveAll(b.dir)
}

// wav is a 440 Hz tone as a WAV file, 16 bit at 8000 Hz.
func wav(seconds int) []byte {
	n := seconds * 8000
	out := make([]byte, 44, 44+2*n)
	copy(out, "RIFF....WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data")
	for at, v := range map[int]int{4: 36 + 2*n, 40: 2 * n} {
		for i := range 4 {
			out[at+i] = byte(v >> (8 * i))
		}
	}
	for i := range n {
		v := int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
		out = append(out, byte(v), byte(v>>8))
	}
	return out
}

func poll(ctx context.Context, what string, ready func() bool) error {
	patience, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-patience.Done():
			return fmt.Errorf("%s did not come up", what)
		case <-tick.C:
		}
	}
	return nil
}
