package blob

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// disk is what Dir wants of a file system: one that fails stands in for it in
// tests.
type disk interface {
	Create(name string) (file, error)
	Open(name string) (file, error)
	Chtimes(name string, t time.Time) error
	Rename(from, to string) error
	Remove(name string) error
	MkdirAll(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	Close() error
}

type file interface {
	io.ReadWriteCloser
	Sync() error
	Stat() (fs.FileInfo, error)
}

// rooted is a disk that no name and no symbolic link leads out of.
type rooted struct{ root *os.Root }

const (
	dirMode  = 0o750
	fileMode = 0o640
)

func (r rooted) Create(name string) (file, error) {
	return r.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
}
func (r rooted) Open(name string) (file, error)         { return r.root.Open(name) }
func (r rooted) Chtimes(name string, t time.Time) error { return r.root.Chtimes(name, t, t) }
func (r rooted) Rename(from, to string) error           { return r.root.Rename(from, to) }
func (r rooted) Remove(name string) error               { return r.root.Remove(name) }
func (r rooted) MkdirAll(name string) error             { return r.root.MkdirAll(name, dirMode) }
func (r rooted) Close() error                           { return r.root.Close() }

func (r rooted) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(r.root.FS(), name)
}

func (r rooted) SyncDir(name string) error {
	d, err := r.root.Open(name)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the first error says it
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return d.Close()
}
