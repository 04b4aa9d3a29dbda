package edge_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/gateway"
)

const file = "/mediaservice/" + domain + "/promptfile/menu.wav"

func TestFileGoesUpAndDown(t *testing.T) {
	h := open(t)
	content := strings.Repeat("0123456789abcdef", 20_000) // several chunks, and not a whole number of them
	content = content[:len(content)-3]
	if status, _, body := h.request(t, "PUT", file, "demo-secret", content, "Content-Type", "audio/wav"); status != 200 || body != `{"success":true}` {
		t.Fatalf("%d %s", status, body)
	}
	status, header, body := h.request(t, "GET", "/"+domain+"/promptfile/menu.wav", "demo-secret", "")
	if status != 200 || body != content {
		t.Fatalf("%d, %d bytes of %d", status, len(body), len(content))
	}
	for name, want := range map[string]string{
		"Content-Type": "audio/wav", "Etag": `"abc"`, "X-Content-Type-Options": "nosniff",
		"Content-Length": fmt.Sprint(len(content)), "Access-Control-Allow-Origin": "*",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for tag, want := range map[string]int{`"abc"`: 304, `W/"abc"`: 304, `"other"`: 200, `*`: 200} {
		if status, _, _ := h.request(t, "GET", file, "demo-secret", "", "If-None-Match", tag); status != want {
			t.Errorf("If-None-Match %s: %d, want %d", tag, status, want)
		}
	}
	if status, _, body := h.request(t, "DELETE", file, "demo-secret", ""); status != 200 || body != `{"success":true}` {
		t.Errorf("delete: %d %s", status, body)
	}
}

func TestTooLargeAFileIsRefused(t *testing.T) {
	h := open(t, func(c *gateway.Config) { c.Limits.PromptBytes = 100_000 })
	const want = `{"success":false,"reason":"file is larger than 100000 bytes","error":"tooLarge"}`
	for name, body := range map[string]io.Reader{
		"announced":   bytes.NewReader(make([]byte, 100_001)),
		"unannounced": io.MultiReader(bytes.NewReader(make([]byte, 100_001))),
	} {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", h.url+file, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer demo-secret")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 413 || string(text) != want {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	if len(h.recordingd.files) != 0 {
		t.Error("a refused file was stored")
	}
	if status, _, _ := h.request(t, "PUT", file, "demo-secret", strings.Repeat("x", 100_000)); status != 200 {
		t.Errorf("a file of just the limit: %d", status)
	}
}

func TestBrokenUploadStoresNothing(t *testing.T) {
	h := open(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-secret\r\nContent-Length: 200000\r\n\r\n%s", file, strings.Repeat("x", 150_000))
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-h.recordingd.aborted:
		if err == nil {
			t.Error("the upload ended as if whole")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("recordingd never heard of the end")
	}
	if len(h.recordingd.files) != 0 {
		t.Error("a part of a file was stored")
	}
}

func TestASlowUploadMayTakeLongerThanARequestButMayNotStall(t *testing.T) {
	h := open(t, func(c *gateway.Config) { c.Limits.BodyTimeout, c.Limits.WriteTimeout = time.Second, time.Second })
	slow, w := io.Pipe()
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for range 8 {
			<-tick.C
			_, _ = w.Write(make([]byte, 64<<10)) // fails when the test has failed
		}
		_ = w.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", h.url+file, slow)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer demo-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || len(h.recordingd.files["menu.wav"]) != 8*64<<10 {
		t.Errorf("%d, %d bytes stored", resp.StatusCode, len(h.recordingd.files["menu.wav"]))
	}

	conn := dial(t, h)
	fmt.Fprintf(conn, "PUT /%s/promptfile/stalled.wav HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-secret\r\nContent-Length: 100\r\n\r\nhalf", domain)
	text, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(text), "request body ended early") {
		t.Errorf("%s, %v", text, err)
	}
	if err := <-h.recordingd.aborted; err == nil {
		t.Error("the stalled upload ended as if whole")
	}
	if _, ok := h.recordingd.files["stalled.wav"]; ok {
		t.Error("a part of a file was stored")
	}
}

func TestBrokenDownloadBreaksTheConnection(t *testing.T) {
	h := open(t)
	h.request(t, "PUT", file, "demo-secret", strings.Repeat("x", 100_000))
	h.recordingd.breakAfter = 50
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+file, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer demo-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(bufio.NewReader(resp.Body)); err == nil {
		t.Error("a part of the file passed for the whole")
	}
	_ = resp.Body.Close()
	h.stop()
	if strings.Contains(h.log.String(), "panicked") {
		t.Error("the abort was logged as a panic")
	}
}
