package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Makefile", "run: build\ntest:\n")
	write("kit/run/run.go", "")
	write("docs/good.md", strings.Join([]string{
		"See [it](../kit/run) and [out](https://example.com), `kit/run/run.go`, `kit/{run}/*.go`, `make run`, `text/plain`.",
		"```", "make test", "go test ./kit/...", "```",
	}, "\n"))
	if wrong, files, err := check(root); err != nil || len(wrong) != 0 || files != 1 {
		t.Fatalf("%d files, %v, %v", files, wrong, err)
	}
	write("docs/bad.md", strings.Join([]string{
		"See [it](gone.md), `kit/gone.go`, `kit/{run,gone}/*.go` and `make gone`.",
		"```", "make gone", "go test ./kit/gone/...", "```",
	}, "\n"))
	wrong, _, err := check(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(wrong) != 6 {
		t.Errorf("%d found:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
}
