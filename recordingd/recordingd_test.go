package recordingd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/kit/run"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
	"github.com/callmesh/callmesh/recordingd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "demo.callmesh.test"

// house is a recordingd with clients in the names of the gateway and of ivrd.
type house struct {
	dir     string
	prompts recordingpb.PromptsClient
	files   mediaservicepb.PromptFilesClient
	mesh    *mesh.Memory
	signer  *principal.Signer
	metrics *prometheus.Registry
}

func start(t *testing.T) *house {
	t.Helper()
	signer, err := principal.NewSigner(bytes.Repeat([]byte{7}, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{dir: t.TempDir(), mesh: &mesh.Memory{}, signer: signer, metrics: prometheus.NewRegistry()}
	cfg := recordingd.Defaults()
	cfg.Blob.URL = "file:" + h.dir
	cfg.Prompts.MaxBytes = 1 << 20
	parts, err := recordingd.Parts(cfg, daemon.Env{
		Service: "recordingd", Instance: "recordingd-1", Mesh: h.mesh, Signer: signer,
		Log: slog.New(slog.DiscardHandler), Metrics: h.metrics, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run.All(ctx, slog.New(slog.DiscardHandler), 5*time.Second, nil, parts...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn := h.dial(t, "gateway")
	h.prompts, h.files = recordingpb.NewPromptsClient(conn), mediaservicepb.NewPromptFilesClient(conn)
	return h
}

func (h *house) dial(t *testing.T, service string) *grpc.ClientConn {
	t.Helper()
	d := grpckit.NewDialer(h.mesh, h.signer, service)
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	conn, err := d.Service("recordingd")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func customer(t *testing.T, domains ...string) context.Context {
	return principal.As(t.Context(), principal.Principal{Subject: "demo", Domains: domains, Roles: []string{"domain"}})
}

// tone is a WAV file of n bytes of audio.
func tone(n int) []byte {
	le := binary.LittleEndian
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x07\x00\x01\x00")
	b = le.AppendUint32(le.AppendUint32(b, 8000), 8000)
	b = append(b, 1, 0, 8, 0)
	b = le.AppendUint32(append(b, "data"...), uint32(n)) //nolint:gosec // small
	return append(b, bytes.Repeat([]byte{0x55}, n)...)
}

func put(ctx context.Context, c recordingpb.PromptsClient, domain, name string, content []byte) (*recordingpb.PromptHead, error) {
	stream, err := c.PutPrompt(ctx)
	if err != nil {
		return nil, err
	}
	msg := &recordingpb.PutPromptRequest{Domain: domain, Name: name}
	for {
		n := min(len(content), 10_000)
		msg.Data, content = content[:n], content[n:]
		if err := stream.Send(msg); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(content) == 0 {
			break
		}
		msg = &recordingpb.PutPromptRequest{}
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetHead(), err
}

func get(ctx context.Context, c recordingpb.PromptsClient, domain, name, etag string) (*recordingpb.OpenPromptResponse, []byte, error) {
	stream, err := c.OpenPrompt(ctx, &recordingpb.OpenPromptRequest{Domain: domain, Name: name, IfNoneMatch: etag})
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	content := first.GetData()
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return first, content, nil
		}
		if err != nil {
			return nil, nil, err
		}
		content = append(content, msg.GetData()...)
	}
}

func TestPromptIsKept(t *testing.T) {
	h := start(t)
	ctx := customer(t, domain)
	content := tone(200_000)
	head, err := put(ctx, h.prompts, domain, "menu.wav", content)
	if err != nil {
		t.Fatal(err)
	}
	if head.GetName() != "menu.wav" || head.GetSize() != int64(len(content)) || head.GetContentType() != "audio/wav" || head.GetEtag() == "" || head.GetModified() == nil {
		t.Errorf("head %v", head)
	}
	// As ivrd reads it.
	ivrd := recordingpb.NewPromptsClient(h.dial(t, "ivrd"))
	first, got, err := get(t.Context(), ivrd, domain, "menu.wav", "")
	if err != nil || !bytes.Equal(got, content) || first.GetHead().GetEtag() != head.GetEtag() || first.GetHead().GetContentType() != "audio/wav" {
		t.Fatalf("%d bytes of %d, %v, %v", len(got), len(content), first.GetHead(), err)
	}
	if first, got, err = get(t.Context(), ivrd, domain, "menu.wav", head.GetEtag()); err != nil || !first.GetNotModified() || len(got) != 0 {
		t.Errorf("with its etag: %v, %v", first, err)
	}
	if again, err := put(ctx, h.prompts, domain, "menu.wav", content); err != nil || again.GetEtag() == head.GetEtag() {
		t.Errorf("put anew: %v, %v", again, err)
	}
	if _, err := h.prompts.DeletePrompt(ctx, &recordingpb.DeletePromptRequest{Domain: domain, Name: "menu.wav"}); err != nil {
		t.Error(err)
	}
	if _, _, err := get(ctx, h.prompts, domain, "menu.wav", ""); fault.ReasonOf(err) != fault.PromptNotFound {
		t.Errorf("after delete: %v", err)
	}
}

func TestWhoMay(t *testing.T) {
	h := start(t)
	if _, err := put(customer(t, domain), h.prompts, domain, "menu.wav", tone(100)); err != nil {
		t.Fatal(err)
	}
	mediad := recordingpb.NewPromptsClient(h.dial(t, "mediad"))
	none := principal.As(t.Context(), principal.Principal{Subject: "x", Domains: []string{domain}, Roles: []string{"other"}})
	for name, tc := range map[string]struct {
		ctx    context.Context
		client recordingpb.PromptsClient
		want   fault.Reason
	}{
		"its customer":     {customer(t, domain), h.prompts, ""},
		"another customer": {customer(t, "other.test"), h.prompts, fault.DomainForbidden},
		"no role":          {none, h.prompts, fault.Forbidden},
		"mediad":           {t.Context(), mediad, fault.Forbidden},
		"the gateway":      {t.Context(), h.prompts, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := get(tc.ctx, tc.client, domain, "menu.wav", "")
			if got := fault.ReasonOf(err); got != tc.want {
				t.Errorf("open: %v", err)
			}
			if _, err = put(tc.ctx, tc.client, domain, "menu.wav", tone(100)); fault.ReasonOf(err) != tc.want {
				t.Errorf("put: %v", err)
			}
			if _, err = tc.client.ListPrompts(tc.ctx, &recordingpb.ListPromptsRequest{Domain: domain}); fault.ReasonOf(err) != tc.want {
				t.Errorf("list: %v", err)
			}
			_, err = h.files.ListPromptFiles(tc.ctx, &mediaservicepb.ListPromptFilesRequest{Domain: domain})
			if got := fault.ReasonOf(err); tc.client == h.prompts && got != tc.want {
				t.Errorf("list files: %v", err)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	h := start(t)
	ctx := customer(t, "*")
	sound := tone(100)
	for name, tc := range map[string]struct {
		domain, name string
		content      []byte
		want         fault.Reason
		field        string
	}{
		"no audio":           {domain, "a.wav", []byte("text"), fault.PromptInvalid, ""},
		"nothing":            {domain, "a.wav", nil, fault.PromptInvalid, ""},
		"cut off":            {domain, "a.wav", sound[:120], fault.PromptInvalid, ""},
		"too large":          {domain, "a.wav", tone(1 << 20), fault.TooLarge, "filename"},
		"leading dot":        {domain, ".a", sound, fault.BadRequest, "filename"},
		"path":               {domain, "../a", sound, fault.BadRequest, "filename"},
		"no name":            {domain, "", sound, fault.BadRequest, "filename"},
		"too long a name":    {domain, strings.Repeat("x", 256), sound, fault.BadRequest, "filename"},
		"domain with a path": {"../..", "a.wav", sound, fault.BadRequest, "domain"},
		"no domain":          {"", "a.wav", sound, fault.BadRequest, "domain"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := put(ctx, h.prompts, tc.domain, tc.name, tc.content)
			f := fault.From(err)
			if err == nil || f.Reason != tc.want || f.Field != tc.field {
				t.Errorf("%v (%s on %q), want %s on %q", err, f.Reason, f.Field, tc.want, tc.field)
			}
		})
	}
	if list, err := h.prompts.ListPrompts(ctx, &recordingpb.ListPromptsRequest{Domain: domain}); err != nil || len(list.GetPrompts()) != 0 {
		t.Errorf("stored all the same: %v, %v", list, err)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, ".tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
	for _, cursor := range []string{"!", "x", "MTouLi9h", "Mjph"} {
		_, err := h.prompts.ListPrompts(ctx, &recordingpb.ListPromptsRequest{Domain: domain, Next: cursor})
		if f := fault.From(err); f.Reason != fault.BadRequest || f.Field != "next" {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
	_, err := h.files.DeletePromptFile(ctx, &mediaservicepb.DeletePromptFileRequest{Domain: domain, Filename: "none.wav"})
	if fault.ReasonOf(err) != fault.PromptNotFound {
		t.Errorf("delete: %v", err)
	}
}

func TestABrokenUploadLeavesTheOldFile(t *testing.T) {
	h := start(t)
	ctx := customer(t, domain)
	if _, err := put(ctx, h.prompts, domain, "a.mp3", append([]byte("ID3"), make([]byte, 100)...)); err != nil {
		t.Fatal(err)
	}
	broken, cancel := context.WithCancel(ctx)
	stream, err := h.prompts.PutPrompt(broken)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&recordingpb.PutPromptRequest{Domain: domain, Name: "a.mp3", Data: append([]byte("ID3"), make([]byte, 5000)...)}); err != nil {
		t.Fatal(err)
	}
	temporary := filepath.Join(h.dir, ".tmp")
	waitFor(t, func() bool { left, err := os.ReadDir(temporary); return err == nil && len(left) == 1 })
	cancel()
	// The upload's end is counted once it is cleaned up.
	waitFor(t, func() bool { return counter(t, h.metrics, "callmesh_recordingd_prompt_puts_total", "timeout") == 1 })
	if _, content, err := get(ctx, h.prompts, domain, "a.mp3", ""); err != nil || len(content) != 103 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}

func counter(t *testing.T, metrics *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestPagesAreStable(t *testing.T) {
	h := start(t)
	ctx := customer(t, domain)
	sound := tone(10)
	var want []string
	var wg sync.WaitGroup
	for i := range 250 {
		name := fmt.Sprintf("p%03d.wav", i)
		want = append(want, name)
		if i%10 == 0 {
			wg.Wait()
		}
		wg.Go(func() {
			if _, err := put(ctx, h.prompts, domain, name, sound); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var got []string
	var next string
	for page := 0; ; page++ {
		resp, err := h.files.ListPromptFiles(ctx, &mediaservicepb.ListPromptFilesRequest{Domain: domain, Next: next})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range resp.GetFiles() {
			got = append(got, f.GetName())
			if f.GetSize() != int64(len(sound)) {
				t.Errorf("%s has %d bytes", f.GetName(), f.GetSize())
			}
		}
		if page == 0 {
			if len(resp.GetFiles()) != 100 {
				t.Errorf("first page of %d files", len(resp.GetFiles()))
			}
			// What comes and goes before the cursor shifts nothing behind it.
			_, err1 := h.files.DeletePromptFile(ctx, &mediaservicepb.DeletePromptFileRequest{Domain: domain, Filename: "p050.wav"})
			_, err2 := put(ctx, h.prompts, domain, "a.wav", sound)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
		}
		if resp.Next == nil {
			break
		}
		next = resp.GetNext()
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
}

func TestABrokenDiskIsUnavailable(t *testing.T) {
	h := start(t)
	ctx := customer(t, domain)
	// A file where the domain's directory belongs breaks every operation below.
	if err := os.WriteFile(filepath.Join(h.dir, "prompts"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, putErr := put(ctx, h.prompts, domain, "a.wav", tone(10))
	_, listErr := h.prompts.ListPrompts(ctx, &recordingpb.ListPromptsRequest{Domain: domain})
	_, _, openErr := get(ctx, h.prompts, domain, "a.wav", "")
	for op, err := range map[string]error{"put": putErr, "list": listErr, "open": openErr} {
		if fault.ReasonOf(err) != fault.Unavailable || strings.Contains(err.Error(), h.dir) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, ".tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestBadConfigs(t *testing.T) {
	for _, cfg := range []recordingd.Config{
		{Blob: recordingd.Blob{URL: "file:" + t.TempDir()}},
		{Blob: recordingd.Blob{URL: "ftp://x"}, Prompts: recordingd.Prompts{MaxBytes: 1}},
	} {
		if _, err := recordingd.Parts(cfg, daemon.Env{Metrics: prometheus.NewRegistry(), Now: time.Now}); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
