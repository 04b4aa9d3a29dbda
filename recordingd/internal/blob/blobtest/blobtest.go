// Package blobtest is the contract of blob.Store as tests: every implementation
// passes them.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/callmesh/callmesh/recordingd/internal/blob"
)

// Run holds the stores that open returns to the contract. Each is empty.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, blob.Store){
		"what is put can be opened":              putOpen,
		"a put replaces":                         replaces,
		"a failing source leaves the key":        failingSource,
		"a cancelled put leaves the key":         cancelled,
		"a reader keeps what it opened":          readerKeeps,
		"an unfinished put shows nothing":        unfinished,
		"what is absent is not found":            absent,
		"bad keys are refused":                   badKeys,
		"a list is in order and pages":           lists,
		"a list holds the files of its dir only": listsOneDir,
		"parallel puts leave one whole file":     parallel,
		"etags tell puts apart":                  etags,
		"empty and large files":                  sizes,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, s)
		})
	}
}

func put(t *testing.T, s blob.Store, key, content string) blob.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(content))
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

func get(t *testing.T, s blob.Store, key string) (string, blob.Info) {
	t.Helper()
	f, info, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatalf("open %s: %v", key, err)
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(content), info
}

func putOpen(t *testing.T, s blob.Store) {
	stored := put(t, s, "a/b/c.wav", "content")
	content, opened := get(t, s, "a/b/c.wav")
	if content != "content" {
		t.Errorf("content %q", content)
	}
	if opened != stored || stored.Key != "a/b/c.wav" || stored.Size != 7 || stored.ETag == "" || stored.Modified.IsZero() {
		t.Errorf("stored %+v, opened %+v", stored, opened)
	}
	if listed, err := s.List(t.Context(), "a/b", "", 10); err != nil || len(listed) != 1 || listed[0] != stored {
		t.Errorf("listed %+v, %v; stored %+v", listed, err, stored)
	}
}

func replaces(t *testing.T, s blob.Store) {
	put(t, s, "a/b", "a longer first content")
	put(t, s, "a/b", "second")
	if content, info := get(t, s, "a/b"); content != "second" || info.Size != 6 {
		t.Errorf("%q, %+v", content, info)
	}
}

var errSource = errors.New("source failed")

func failingSource(t *testing.T, s blob.Store) {
	broken := func() io.Reader { return io.MultiReader(strings.NewReader("half"), failing{}) }
	if _, err := s.Put(t.Context(), "a/new", broken()); !errors.Is(err, errSource) {
		t.Errorf("error %v, want the source's", err)
	}
	if _, _, err := s.Open(t.Context(), "a/new"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("half a file is there: %v", err)
	}
	before := put(t, s, "a/old", "old")
	if _, err := s.Put(t.Context(), "a/old", broken()); !errors.Is(err, errSource) {
		t.Errorf("error %v, want the source's", err)
	}
	if content, info := get(t, s, "a/old"); content != "old" || info != before {
		t.Errorf("the old file changed: %q, %+v", content, info)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errSource }

func cancelled(t *testing.T, s blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("half"))
		cancel()
		_, _ = w.Write([]byte("and more"))
		_ = w.Close()
	}()
	_, err := s.Put(ctx, "a/b", r)
	_ = r.Close() // lets the writer go
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if _, _, err := s.Open(t.Context(), "a/b"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("half a file is there: %v", err)
	}
}

func readerKeeps(t *testing.T, s blob.Store) {
	put(t, s, "a/b", "first")
	f, _, err := s.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/b", "second")
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || string(content) != "first" {
		t.Errorf("%q, %v", content, err)
	}
}

func unfinished(t *testing.T, s blob.Store) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(context.WithoutCancel(t.Context()), "a/b", r)
		done <- err
	}()
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(t.Context(), "a/b"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("half a file is there: %v", err)
	}
	if listed, err := s.List(t.Context(), "a", "", 10); err != nil || len(listed) != 0 {
		t.Errorf("half a file is listed: %v, %v", listed, err)
	}
	if err := errors.Join(w.Close(), <-done); err != nil {
		t.Fatal(err)
	}
	if content, _ := get(t, s, "a/b"); content != "half" {
		t.Errorf("content %q", content)
	}
}

func absent(t *testing.T, s blob.Store) {
	put(t, s, "a/b/c", "x")
	for _, key := range []string{"a/none", "none/at/all", "a/b"} {
		if _, _, err := s.Open(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("open %s: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := s.Delete(t.Context(), "a/b/c"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	if listed, err := s.List(t.Context(), "none", "", 10); err != nil || len(listed) != 0 {
		t.Errorf("list of a dir that is not: %v, %v", listed, err)
	}
}

func badKeys(t *testing.T, s blob.Store) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../../b", "a/.b", ".tmp/x", `a\b`, "a b", "a\x00b", "å", "a/b\n",
		strings.Repeat("x", 256), "a:b", "a%2fb", "CON|x",
	} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("x")); !errors.Is(err, blob.ErrBadKey) {
			t.Errorf("put %q: %v", key, err)
		}
		if _, _, err := s.Open(t.Context(), key); !errors.Is(err, blob.ErrBadKey) {
			t.Errorf("open %q: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); !errors.Is(err, blob.ErrBadKey) {
			t.Errorf("delete %q: %v", key, err)
		}
		if _, err := s.List(t.Context(), key, "", 1); !errors.Is(err, blob.ErrBadKey) {
			t.Errorf("list %q: %v", key, err)
		}
	}
	put(t, s, "a/"+strings.Repeat("x", 255), "the longest name")
}

func lists(t *testing.T, s blob.Store) {
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("f%02d.wav", i)
		want = append(want, name)
	}
	want = append(want, "F00.wav", "0", "_x", "f", "f0", "f00", "f00.wav.old", "f00-x")
	for _, name := range want {
		put(t, s, "d/"+name, name)
	}
	slices.Sort(want)
	for _, limit := range []int{1, 7, len(want), 1000} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := s.List(t.Context(), "d", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("%d files on a page of %d", len(page), limit)
			}
			for _, info := range page {
				got = append(got, strings.TrimPrefix(info.Key, "d/"))
			}
			if len(page) == 0 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v\nwant %v", limit, got, want)
		}
	}
	// A name to go on after need not be there any more.
	if page, err := s.List(t.Context(), "d", "f05.wavx", 1); err != nil || len(page) != 1 || page[0].Key != "d/f06.wav" {
		t.Errorf("after a name that is not: %v, %v", page, err)
	}
}

func listsOneDir(t *testing.T, s blob.Store) {
	put(t, s, "d/file", "x")
	put(t, s, "d/sub/file", "x")
	put(t, s, "dd/file", "x")
	page, err := s.List(t.Context(), "d", "", 10)
	if err != nil || len(page) != 1 || page[0].Key != "d/file" {
		t.Errorf("%v, %v", page, err)
	}
}

func parallel(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	tags := map[string]string{}
	for i := range 8 {
		wg.Go(func() {
			content := bytes.Repeat([]byte{byte('a' + i)}, 100_000+i)
			for range 5 {
				info, err := s.Put(t.Context(), "d/one", bytes.NewReader(content))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				tags[info.ETag] = string(content)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	content, info := get(t, s, "d/one")
	if want, ok := tags[info.ETag]; !ok || content != want {
		t.Errorf("%d bytes of %q under etag %s are none of the puts", len(content), content[:1], info.ETag)
	}
}

func etags(t *testing.T, s blob.Store) {
	seen := map[string]bool{}
	for i := range 50 {
		// The same size each time, as fast as it goes.
		info := put(t, s, "d/one", fmt.Sprintf("%02d", i))
		if seen[info.ETag] {
			t.Fatalf("etag %s came twice", info.ETag)
		}
		seen[info.ETag] = true
	}
}

func sizes(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 1 << 20} {
		content := strings.Repeat("x", size)
		put(t, s, "d/file", content)
		if got, info := get(t, s, "d/file"); got != content || info.Size != int64(size) {
			t.Errorf("%d bytes came back as %d, size %d", size, len(got), info.Size)
		}
	}
}
