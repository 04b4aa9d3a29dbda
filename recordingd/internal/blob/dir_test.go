package blob_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/recordingd/internal/blob"
	"github.com/callmesh/callmesh/recordingd/internal/blob/blobtest"
)

func TestDirKeepsTheContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		s, err := blob.Open("file:"+t.TempDir(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestDirSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.OpenDir(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Put(t.Context(), "a/b", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash leaves behind.
	half := filepath.Join(dir, ".tmp", "HALF")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = blob.OpenDir(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, after, err := s.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("%+v, want %+v", after, before)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half-written file is still there: %v", err)
	}
}

func TestDirFollowsNoLinkOutOfItself(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := blob.OpenDir(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if f, _, err := s.Open(t.Context(), "link/secret"); err == nil {
		_ = f.Close()
		t.Error("a link led out of the store")
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"s3://bucket":       `scheme "s3" is not known`,
		"file:":             "names no directory",
		"file://host/x":     "names no directory",
		"./data":            `scheme "" is not known`,
		"file:/dev/null/no": "not a directory",
	} {
		s, err := blob.Open(url, time.Now)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", url)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}
