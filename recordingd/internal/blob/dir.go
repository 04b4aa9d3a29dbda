package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strconv"
	"sync"
	"time"
)

// Dir is a Store in a directory of one machine: a key is a path below it, so
// an operator can look at the files and copy them.
type Dir struct {
	disk disk
	now  func() time.Time

	mu   sync.Mutex
	last time.Time
}

// temporary holds files that are not whole yet. No key begins with a dot.
const temporary = ".tmp"

// OpenDir returns the store below dir, which it makes if need be. What a crash
// left half-written is removed: one process alone writes here.
func OpenDir(dir string, now func() time.Time) (*Dir, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return newDir(rooted{root}, now)
}

func newDir(d disk, now func() time.Time) (*Dir, error) {
	s := &Dir{disk: d, now: now}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: %w", err), d.Close())
	}
	return s, nil
}

func (s *Dir) sweep() error {
	if err := s.disk.MkdirAll(temporary); err != nil {
		return err
	}
	left, err := s.disk.ReadDir(temporary)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := s.disk.Remove(path.Join(temporary, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Put writes beside the key, makes that durable, and only then renames it.
func (s *Dir) Put(ctx context.Context, key string, r io.Reader) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	temp := path.Join(temporary, rand.Text())
	size, err := s.write(ctx, temp, r)
	if err != nil {
		return Info{}, s.abandon(temp, err)
	}
	// The time names this put: the clock of a file system ticks too slowly to
	// tell two of them apart.
	stamp := s.stamp()
	if err := s.disk.Chtimes(temp, stamp); err != nil {
		return Info{}, s.abandon(temp, err)
	}
	dir := path.Dir(key)
	if err := s.disk.MkdirAll(dir); err != nil {
		return Info{}, s.abandon(temp, err)
	}
	if err := s.disk.Rename(temp, key); err != nil {
		return Info{}, s.abandon(temp, err)
	}
	// From here on the file is there; if this fails it may be gone after a power
	// cut, and the caller does well to put it again.
	for ; ; dir = path.Dir(dir) {
		if err := s.disk.SyncDir(dir); err != nil {
			return Info{}, fmt.Errorf("blob: %w", err)
		}
		if dir == "." {
			return info(key, size, stamp), nil
		}
	}
}

func (s *Dir) write(ctx context.Context, temp string, r io.Reader) (int64, error) {
	f, err := s.disk.Create(temp)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(onlyWriter{f}, reader{ctx, r})
	if err == nil {
		err = f.Sync()
	}
	return size, errors.Join(err, f.Close())
}

// onlyWriter hides File.ReadFrom, which would bypass the reader's checks of
// its context for as long as a splice lasts.
type onlyWriter struct{ io.Writer }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

func (s *Dir) abandon(temp string, why error) error {
	if err := s.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		why = errors.Join(why, err) // the next start sweeps it
	}
	return fmt.Errorf("blob: %w", why)
}

// stamp returns the time, later by a microsecond at least than the last one:
// some file systems keep no finer.
func (s *Dir) stamp() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.now().Truncate(time.Microsecond)
	if !t.After(s.last) {
		t = s.last.Add(time.Microsecond)
	}
	s.last = t
	return t
}

func info(key string, size int64, modified time.Time) Info {
	return Info{
		Key: key, Size: size, Modified: modified.UTC(),
		ETag: strconv.FormatInt(modified.UnixMicro(), 36) + "-" + strconv.FormatInt(size, 36),
	}
}

// Open returns the file at the key.
func (s *Dir) Open(_ context.Context, key string) (io.ReadCloser, Info, error) {
	if err := CheckKey(key); err != nil {
		return nil, Info{}, err
	}
	f, err := s.disk.Open(key)
	if err != nil {
		return nil, Info{}, missing(err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		_ = f.Close() // was only looked at
		return nil, Info{}, missing(err)
	}
	return f, info(key, st.Size(), st.ModTime()), nil
}

// Delete removes the file at the key.
func (s *Dir) Delete(ctx context.Context, key string) error {
	f, _, err := s.Open(ctx, key)
	if err != nil {
		return err
	}
	_ = f.Close() // was only looked at: Remove would take an empty directory too
	if err := s.disk.Remove(key); err != nil {
		return missing(err)
	}
	if err := s.disk.SyncDir(path.Dir(key)); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	return nil
}

// List returns the files under dir after the given name.
func (s *Dir) List(_ context.Context, dir, after string, limit int) ([]Info, error) {
	if err := CheckKey(dir); err != nil {
		return nil, err
	}
	entries, err := s.disk.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	from := sort.Search(len(entries), func(i int) bool { return entries[i].Name() > after })
	var found []Info
	for _, e := range entries[from:] {
		if len(found) == limit {
			break
		}
		if !e.Type().IsRegular() || !IsName(e.Name()) {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return nil, fmt.Errorf("blob: %w", err)
		}
		found = append(found, info(path.Join(dir, e.Name()), st.Size(), st.ModTime()))
	}
	return found, nil
}

// Close gives the directory back.
func (s *Dir) Close() error { return s.disk.Close() }

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	return fmt.Errorf("blob: %w", err)
}
