// Package blob keeps files under keys. A file appears whole or not at all, and
// a reader goes on reading what it opened, whatever becomes of the key.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Info is what a store knows of a file without reading it.
type Info struct {
	Key  string
	Size int64
	// ETag changes whenever the file is put anew.
	ETag     string
	Modified time.Time
}

// Store is a place for files. blobtest holds every implementation to this text.
type Store interface {
	// Put stores what r gives until io.EOF, in place of what was there. On any
	// other error of r, and on any of its own, it returns that error and the key
	// is as it was, unless all that failed was to make the file durable. Of puts to one key at once, the one completed last stays.
	Put(ctx context.Context, key string, r io.Reader) (Info, error)
	// Open returns the file, ErrNotFound if there is none.
	Open(ctx context.Context, key string) (io.ReadCloser, Info, error)
	// Delete removes the file, ErrNotFound if there is none.
	Delete(ctx context.Context, key string) error
	// List returns the files right under dir whose names come after the given
	// one, in byte order of names, at most limit; none for a dir that is not.
	List(ctx context.Context, dir, after string, limit int) ([]Info, error)
	// Close gives back what the store holds.
	Close() error
}

// The errors that callers branch on; all others mean that the store is broken.
var (
	ErrNotFound = errors.New("blob: not found")
	ErrBadKey   = errors.New("blob: bad key")
)

// segment of a key: what is safe as a file name, as a URL segment and as an
// object key alike.
var segment = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$`)

// IsName tells whether s may be one segment of a key.
func IsName(s string) bool { return segment.MatchString(s) }

// CheckKey returns ErrBadKey for a key that is not names joined by slashes.
func CheckKey(key string) error {
	for name := range strings.SplitSeq(key, "/") {
		if !IsName(name) {
			return fmt.Errorf("%w: %q", ErrBadKey, key)
		}
	}
	return nil
}

// Open returns the store at the URL, such as file:./data/blob.
func Open(rawURL string, now func() time.Time) (Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("blob.url: %w", err)
	}
	switch {
	case u.Scheme == "file" && u.Opaque+u.Path != "" && u.Host == "":
		return OpenDir(u.Opaque+u.Path, now)
	case u.Scheme == "file":
		return nil, fmt.Errorf("blob.url: %q names no directory, expected file:./path or file:///path", rawURL)
	}
	return nil, fmt.Errorf("blob.url: scheme %q is not known, expected file", u.Scheme)
}
