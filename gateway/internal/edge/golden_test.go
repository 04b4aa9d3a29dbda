package edge_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callmesh/callmesh/gateway/internal/openapi"
)

var update = flag.Bool("update", false, "write the answers into testdata/golden")

const between = "\n----\n"

// told are the headers that belong to an answer's contract.
var told = []string{
	"Content-Type", "Allow", "Etag", "Www-Authenticate", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
}

// Each file holds a request as it goes over the wire, and the answer to it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../../testdata/golden/*.http")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(text), between)
			h := open(t)
			h.recordingd.files["menu.wav"] = []byte("RIFF of a menu")
			got := exchange(t, h, request)
			if *update {
				if err := os.WriteFile(file, []byte(request+between+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != strings.TrimSuffix(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func exchange(t *testing.T, h *house, text string) string {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), r.Method, h.url+r.RequestURI, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %s\n", resp.Status)
	for _, name := range told {
		if v := resp.Header.Get(name); v != "" {
			fmt.Fprintf(&out, "%s: %s\n", name, v)
		}
	}
	fmt.Fprintf(&out, "\n%s", content)
	return out.String()
}

// Whatever the API describes has a sample.
func TestEveryOperationHasAGoldenFile(t *testing.T) {
	doc, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	files, err := filepath.Glob("../../testdata/golden/*.http")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		method, rest, _ := strings.Cut(string(text), " ")
		path, _, _ := strings.Cut(rest, " ")
		path, _, _ = strings.Cut(path, "?")
		seen[method+" "+doc.Template(path)] = true
	}
	for _, op := range doc.Operations() {
		// The bare form is the same operation.
		if !strings.Contains(op, " /{domain}/") && !seen[op] {
			t.Errorf("%s has no golden file", op)
		}
	}
}
