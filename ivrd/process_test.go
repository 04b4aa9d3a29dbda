package ivrd_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/kit/registry"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// TestKill9 runs two ivrd processes with their default timing and kills the one
// in charge while its caller is pressing a key.
func TestKill9(t *testing.T) {
	server := redistest.Start(t)
	h := newHouse(t, server.Client())
	media := h.serveTCP("mediad", h.mediad.register)
	config := `
mesh:
  listen: 127.0.0.1:0
  secret: ` + secret + `
  targets: { sessiond: "` + h.serveTCP("sessiond", h.sessiond.register) + `", recordingd: "` + h.serveTCP("recordingd", h.recordingd.register) + `" }
redis: { url: "` + server.URL() + `" }
`
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "ivrd.yaml"), filepath.Join(dir, "ivrd")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/ivrd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	processes := map[string]*exec.Cmd{} // by address
	for n := range 2 {
		p := exec.Command(binary, "-config", file)
		p.Stdout, p.Stderr = h.logs, h.logs
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = p.Process.Kill() // one of them is dead already
			_ = p.Wait()
		})
		processes[h.newcomer(processes, n+1)] = p
	}

	dialer := grpckit.NewDialer(mesh.Network{}, h.signer, "sessiond")
	defer func() { _ = dialer.Close(context.Background()) }()
	var victim string
	for victim = range processes {
		break
	}
	conn, err := dialer.Instance(victim)
	if err != nil {
		t.Fatal(err)
	}
	h.recordingd.put(domain, "menu.wav", wav(440, 800))
	c := h.call()
	req := c.start()
	req.MediaAddress = media
	resp, err := ivrpb.NewDialoguesClient(conn).Start(t.Context(), req)
	if err != nil || resp.GetAddress() != victim {
		t.Fatalf("start at %s: %v, %v", victim, resp, err)
	}
	h.sessiond.answer(t, `{"phrases":[{"format":"file","fileName":"menu.wav"}],"dtmf":{"maxDigits":1}}`)
	step := h.mediad.next(t)

	died := time.Now()
	if err := processes[victim].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	h.mediad.finish(t, c.leg, &mediapb.StepResult{
		StepId: step.GetStepId(), Reason: mediapb.StepResult_REASON_MAX_DIGITS, Digits: "5", Buffer: "5",
	})
	q := h.sessiond.asked(t)
	t.Logf("went on after %s", time.Since(died).Round(10*time.Millisecond))
	if want := `{"dtmfBuffer":"5","dtmfParams":{"dtmfMatch":"5","reason":"maxDigits"}}`; string(q.GetBody()) != want || q.GetCommandId() != "3.2" {
		t.Errorf("asked for %s with %s\nwant %s", q.GetCommandId(), q.GetBody(), want)
	}
	q.answer(`{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
	silent(t, h.sessiond.asks, "another question")
}

func (h *house) serveTCP(service string, register func(*grpckit.Server)) string {
	h.t.Helper()
	return h.serve(service, mesh.Network{ListenOn: map[string]string{service: "127.0.0.1:0"}}, register).Address()
}

// newcomer waits for so many instances and returns the address that is not known
// yet.
func (h *house) newcomer(known map[string]*exec.Cmd, n int) (address string) {
	h.t.Helper()
	instances := registry.New(h.rdb, slog.New(slog.DiscardHandler), registry.Options{})
	h.until(func() bool {
		live, err := instances.List(h.t.Context(), "ivrd")
		if err != nil {
			h.t.Fatal(err)
		}
		for _, i := range live {
			if known[i.Address] == nil {
				address = i.Address
			}
		}
		return len(live) == n && address != ""
	})
	return address
}
