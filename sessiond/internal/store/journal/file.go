package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// record is one journaled write: a state, or notifications alone.
type record struct {
	// At is when it was written.
	At      time.Time
	Write   *store.Write `json:",omitempty"`
	Fence   store.Fence
	Entries []lane.Entry `json:",omitempty"`
}

func (r record) session() uuid.UUID {
	if r.Write != nil {
		return r.Write.ID
	}
	if len(r.Entries) > 0 {
		return r.Entries[0].Session
	}
	return uuid.Nil
}

// A record in the file is its length, the CRC-32C of its text, and the text.
const headerSize = 8

// maxRecord bounds what a damaged length makes us read.
const maxRecord = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r record) encode() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(text) > maxRecord {
		return nil, fmt.Errorf("journal: a write of %d bytes", len(text))
	}
	b := make([]byte, headerSize, headerSize+len(text))
	binary.BigEndian.PutUint32(b, uint32(len(text)))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(text, castagnoli))
	return append(b, text...), nil
}

const suffix = ".journal"

// file is a journal on the disk, locked by its instance. Its owner guards all of
// it but sync with a lock of his own.
type file struct {
	f *os.File
	// done is where the first record lies that Redis does not have, end where the
	// next one is written.
	done, end int64

	syncing sync.Mutex
	synced  int64 // guarded by syncing
}

func openFile(dir, instance string) (*file, error) {
	if instance == "" || strings.ContainsAny(instance, `/\`) {
		return nil, fmt.Errorf("journal: %q names no file", instance)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return openPath(filepath.Join(dir, instance+suffix))
}

var errLocked = errors.New("is in use by another process")

func openPath(path string) (*file, error) {
	// Records hold what callers said and dialled: nobody else's business.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if !lock(f) {
		_ = f.Close()
		return nil, fmt.Errorf("journal %s %w", path, errLocked)
	}
	j := &file{f: f}
	if err := j.recover(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return j, nil
}

// openLeft opens the files of other instances that run no more.
func openLeft(dir, instance string, log *slog.Logger) ([]*file, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var left []*file
	for _, name := range names { // by name: instances' names carry no order that matters
		if filepath.Base(name) == instance+suffix {
			continue
		}
		f, err := openPath(name)
		switch {
		case errors.Is(err, errLocked):
			continue
		case err != nil:
			log.Error("journal of a former instance cannot be read", "file", name, "err", err)
			continue
		}
		left = append(left, f)
	}
	return left, nil
}

// recover finds the end of what was written whole: a crash may have torn the last
// record, which then was acknowledged to nobody.
func (j *file) recover() error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	for j.end < info.Size() {
		_, next, err := j.read(j.end)
		if err != nil {
			if errors.Is(err, errTorn) {
				return j.f.Truncate(j.end)
			}
			return err
		}
		j.end = next
	}
	return nil
}

var errTorn = errors.New("a record is torn")

// read returns the record at an offset, and where the next one begins.
func (j *file) read(at int64) (*record, int64, error) {
	var header [headerSize]byte
	if _, err := j.f.ReadAt(header[:], at); err != nil {
		return nil, 0, torn(err)
	}
	size := binary.BigEndian.Uint32(header[:])
	if size > maxRecord {
		return nil, 0, errTorn
	}
	text := make([]byte, size)
	if _, err := j.f.ReadAt(text, at+headerSize); err != nil {
		return nil, 0, torn(err)
	}
	if crc32.Checksum(text, castagnoli) != binary.BigEndian.Uint32(header[4:]) {
		return nil, 0, errTorn
	}
	r := &record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, 0, errTorn
	}
	return r, at + headerSize + int64(size), nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// first returns the first record that is not done, or nil if there is none.
func (j *file) first() (*record, int64, error) {
	if j.done >= j.end {
		return nil, j.done, nil
	}
	return j.read(j.done)
}

// records returns all that is not done.
func (j *file) records() []*record {
	var list []*record
	for at := j.done; at < j.end; {
		r, next, err := j.read(at)
		if err != nil {
			break
		}
		list, at = append(list, r), next
	}
	return list
}

// write adds an encoded record and returns the end up to which sync must go.
func (j *file) write(b []byte) (int64, error) {
	if _, err := j.f.WriteAt(b, j.end); err != nil {
		_ = j.f.Truncate(j.end)
		return 0, err
	}
	j.end += int64(len(b))
	return j.end, nil
}

// sync returns once the disk has all up to an offset. Those who come while one
// syncs wait for him, and then mostly find it done for them too.
func (j *file) sync(upTo int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= upTo {
		return nil
	}
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.synced = info.Size()
	return nil
}

// reset empties a file all of whose records are done.
func (j *file) reset() error {
	if j.end == 0 {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := j.f.Truncate(0); err != nil {
		return err
	}
	j.done, j.end, j.synced = 0, 0, 0
	return nil
}

func (j *file) remove() error { return errors.Join(os.Remove(j.f.Name()), j.f.Close()) }

// close leaves an empty file to nobody.
func (j *file) close() error {
	if j.done >= j.end {
		return j.remove()
	}
	return j.f.Close()
}
