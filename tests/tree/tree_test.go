// Package tree holds the source tree to what no linter checks.
package tree

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// visit calls look for every Go file of ours that is not generated.
func visit(t *testing.T, look func(name string, text []byte)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && len(d.Name()) > 2 && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(text[:min(len(text), 500)], []byte("DO NOT EDIT")) {
			seen++
			look(name, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d files seen", seen)
	}
}

// TestTestsDoNotSleep: but in a synctest bubble, where a sleep moves the clock.
func TestTestsDoNotSleep(t *testing.T) {
	visit(t, func(name string, text []byte) {
		if strings.HasSuffix(name, "_test.go") && !strings.Contains(name, "tests/tree/") &&
			bytes.Contains(text, []byte("time.Sleep(")) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
			t.Errorf("%s sleeps: wait for what you wait for", name)
		}
	})
}

// TestNothingIsSkipped: a missing program is a failure that says how to get it.
func TestNothingIsSkipped(t *testing.T) {
	visit(t, func(name string, text []byte) {
		// A fuzz target skips inputs that are none of its business.
		if strings.Contains(name, "tests/tree/") || strings.HasSuffix(name, "fuzz_test.go") {
			return
		}
		for _, call := range []string{"t.Skip(", "t.Skipf(", "t.SkipNow("} {
			if bytes.Contains(text, []byte(call)) {
				t.Errorf("%s calls %s", name, call)
			}
		}
	})
}

// TestFilesAreAboutOneIdea: what is longer than 600 lines is about two.
func TestFilesAreAboutOneIdea(t *testing.T) {
	visit(t, func(name string, text []byte) {
		if lines := bytes.Count(text, []byte("\n")); lines > 600 && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has %d lines", name, lines)
		}
	})
}
