package deployment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Daemons are the five, in the order in which they start.
var Daemons = []string{"recordingd", "mediad", "ivrd", "sessiond", "gateway"}

// Processes is the five daemons as processes of their own.
type Processes struct {
	bin, dir string
	sip      string
	rest     string
	redis    string
	targets  strings.Builder // YAML of mesh.targets, the same for all
	configs  map[string]string
	ops      map[string]string
	running  map[string]*process
}

type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// Build compiles the daemons into a directory.
func Build(ctx context.Context, root, into string, flags ...string) error {
	args := append([]string{"build"}, flags...)
	args = append(args, "-o", into+"/")
	for _, d := range Daemons {
		args = append(args, "./"+d+"/cmd/"+d)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// StartProcesses starts the daemons that Build put into bin, on a Redis that
// runs already (cfg.Redis).
func StartProcesses(ctx context.Context, bin string, cfg Config) (*Processes, error) {
	if cfg.Redis == "" {
		return nil, errors.New("five processes need a Redis to share")
	}
	ports, err := Reserve(2 + 2*len(Daemons))
	if err != nil {
		return nil, err
	}
	p := &Processes{
		bin: bin, dir: cfg.Dir, redis: cfg.Redis,
		sip: fmt.Sprintf("127.0.0.1:%d", ports[0]), rest: fmt.Sprintf("127.0.0.1:%d", ports[1]),
		configs: make(map[string]string), ops: make(map[string]string), running: make(map[string]*process),
	}
	for i, d := range Daemons {
		fmt.Fprintf(&p.targets, "    %s: %q\n", d, fmt.Sprintf("passthrough:///127.0.0.1:%d", ports[2+i]))
	}
	for i, d := range Daemons {
		if err := p.configure(d, ports[2+i], ports[2+len(Daemons)+i], p.own(d, cfg)); err != nil {
			return nil, err
		}
	}
	for _, d := range Daemons {
		if err := p.Start(ctx, d); err != nil {
			return nil, errors.Join(err, p.Stop(ctx))
		}
	}
	return p, nil
}

// own is what only the daemon's own configuration has.
func (p *Processes) own(daemon string, cfg Config) string {
	switch daemon {
	case "recordingd":
		return fmt.Sprintf("blob: { url: \"file:%s/blob\" }\n", cfg.Dir)
	case "mediad":
		return fmt.Sprintf("media: { listen: \"127.0.0.1\", advertise: \"127.0.0.1\", ports: %q, quarantine: %s }\n", cfg.mediaPorts(), cfg.quarantine())
	case "sessiond":
		return p.sessiond(p.sip, cfg)
	case "gateway":
		return fmt.Sprintf("rest: { listen: %q }\n", p.rest)
	}
	return ""
}

func (p *Processes) sessiond(sip string, cfg Config) string {
	return fmt.Sprintf("sip: { listen: [\"udp:%s\", \"tcp:%s\"], advertise: \"127.0.0.1\" }\narchive: { url: \"sqlite:%s/archive.db\" }\njournal: { dir: \"%s/journal\" }\n"+
		"secret: \"the secret of a deployment for tests\"\n", sip, sip, cfg.Dir, cfg.Dir) + domainsYAML(cfg.Domains)
}

// configure writes the configuration of one process.
func (p *Processes) configure(name string, grpc, ops int, own string) error {
	p.ops[name] = fmt.Sprintf("127.0.0.1:%d", ops)
	p.configs[name] = filepath.Join(p.dir, name+".yaml")
	text := fmt.Sprintf(`mesh:
  listen: "127.0.0.1:%d"
  advertise: "127.0.0.1"
  secret: "the mesh secret of a deployment for tests"
  reflection: true
  targets:
%sredis: { url: %q }
ops: { listen: %q }
grace: 5s
telemetry: { level: debug, ratio: 1 }
`, grpc, &p.targets, p.redis, p.ops[name])
	return os.WriteFile(p.configs[name], []byte(text+own), 0o600)
}

// AddSessiond starts a second sessiond that shares the Redis, and returns its
// SIP address.
func (p *Processes) AddSessiond(ctx context.Context, cfg Config) (string, error) {
	ports, err := Reserve(3)
	if err != nil {
		return "", err
	}
	const name = "sessiond-2"
	sip := fmt.Sprintf("127.0.0.1:%d", ports[0])
	if err := p.configure(name, ports[1], ports[2], p.sessiond(sip, cfg)); err != nil {
		return "", err
	}
	return sip, p.Start(ctx, name)
}

// Start starts one daemon and waits until it is ready.
func (p *Processes) Start(ctx context.Context, daemon string) error {
	log, err := os.OpenFile(filepath.Join(p.dir, daemon+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	// The context bounds the start, not the life of the daemon.
	program, _, _ := strings.Cut(daemon, "-") // sessiond-2 is another sessiond
	cmd := exec.Command(filepath.Join(p.bin, program), "-config", p.configs[daemon])
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.SysProcAttr = endWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	run := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(run.exited)
		run.err = cmd.Wait()
	}()
	p.running[daemon] = run
	return p.ready(ctx, daemon, run)
}

// ready polls /readyz of the daemon.
func (p *Processes) ready(ctx context.Context, daemon string, run *process) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops[daemon]+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-run.exited:
			return fmt.Errorf("%s ended: %w\n%s", daemon, run.err, p.Log(daemon, 10))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", daemon, ctx.Err(), p.Log(daemon, 10))
		}
	}
}

// Kill ends a daemon as a crash would.
func (p *Processes) Kill(daemon string) error {
	run := p.running[daemon]
	delete(p.running, daemon)
	if err := run.cmd.Process.Kill(); err != nil {
		return err
	}
	<-run.exited
	return nil
}

// Log returns the last lines of a daemon's log.
func (p *Processes) Log(daemon string, lines int) string {
	text, err := os.ReadFile(filepath.Join(p.dir, daemon+".log"))
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// SIP is host:port of sessiond.
func (p *Processes) SIP() string { return p.sip }

// SIPTCP is the same port over TCP.
func (p *Processes) SIPTCP() string { return p.sip }

// REST is the gateway's base URL.
func (p *Processes) REST() string { return "http://" + p.rest }

// Stop ends the daemons in reverse order, each with the time to drain; one that
// does not end with 0 is an error.
func (p *Processes) Stop(ctx context.Context) error {
	var all error
	for _, d := range slices.Backward(append(slices.Clone(Daemons), "sessiond-2")) {
		run := p.running[d]
		if run == nil {
			continue
		}
		delete(p.running, d)
		if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			all = errors.Join(all, err)
		}
		select {
		case <-run.exited:
		case <-ctx.Done():
			all = errors.Join(all, fmt.Errorf("%s does not end: %w", d, ctx.Err()), run.cmd.Process.Kill())
			<-run.exited
			continue
		}
		if run.err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w\n%s", d, run.err, p.Log(d, 5)))
		}
	}
	return all
}
