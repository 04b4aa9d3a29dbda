package blob

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failingDisk fails the operation that is named, with the error of a full disk.
type failingDisk struct {
	disk
	op string
}

func (d *failingDisk) fails(op string) error {
	if d.op == op {
		return &fs.PathError{Op: op, Path: "x", Err: syscall.ENOSPC}
	}
	return nil
}

func (d *failingDisk) Create(name string) (file, error) {
	if err := d.fails("create"); err != nil {
		return nil, err
	}
	f, err := d.disk.Create(name)
	return &failingFile{f, d}, err
}

func (d *failingDisk) Chtimes(name string, t time.Time) error {
	return errors.Join(d.fails("chtimes"), d.disk.Chtimes(name, t))
}

func (d *failingDisk) MkdirAll(name string) error {
	if err := d.fails("mkdir"); err != nil {
		return err
	}
	return d.disk.MkdirAll(name)
}

func (d *failingDisk) Rename(from, to string) error {
	if err := d.fails("rename"); err != nil {
		return err
	}
	return d.disk.Rename(from, to)
}

type failingFile struct {
	file
	d *failingDisk
}

func (f *failingFile) Write(b []byte) (int, error) {
	if err := f.d.fails("write"); err != nil {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, err
	}
	return f.file.Write(b)
}

func (f *failingFile) Sync() error  { return errors.Join(f.d.fails("sync"), f.file.Sync()) }
func (f *failingFile) Close() error { return errors.Join(f.d.fails("close"), f.file.Close()) }

func TestAFailingDiskLeavesNoPartOfAFile(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "close", "chtimes", "mkdir", "rename"} {
		t.Run(op, func(t *testing.T) {
			whole, err := OpenDir(t.TempDir(), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			broken := &failingDisk{disk: whole.disk}
			s, err := newDir(broken, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Put(t.Context(), "a/old", strings.NewReader("old")); err != nil {
				t.Fatal(err)
			}
			broken.op = op
			for _, key := range []string{"a/old", "a/new"} {
				if _, err := s.Put(t.Context(), key, strings.NewReader("a new content")); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("put %s: %v, want ENOSPC", key, err)
				}
			}
			broken.op = ""
			if left, err := broken.ReadDir(temporary); err != nil || len(left) != 0 {
				t.Errorf("temporary files left: %v, %v", left, err)
			}
			if _, _, err := s.Open(t.Context(), "a/new"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a/new: %v, want ErrNotFound", err)
			}
			f, _, err := s.Open(t.Context(), "a/old")
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil || string(content) != "old" {
				t.Errorf("a/old: %q, %v", content, err)
			}
		})
	}
}
