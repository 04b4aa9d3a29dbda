package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
	_ "modernc.org/sqlite"             // the "sqlite" driver

	"github.com/callmesh/callmesh/kit/partition"
)

// dialect is what the two databases say differently.
type dialect struct {
	name string
	// param writes the n-th parameter.
	param func(n int) string
	// id is how a session's id is kept.
	id func(uuid.UUID) any
	// lock keeps other instances from migrating at the same time.
	lock string
}

var postgres = dialect{
	name:  "postgres",
	param: func(n int) string { return "$" + strconv.Itoa(n) },
	id:    func(id uuid.UUID) any { return id.String() },
	// Any number will do that no other program uses on this database.
	lock: "SELECT pg_advisory_xact_lock(7306371943215)",
}

var sqlite = dialect{
	name:  "sqlite",
	param: func(n int) string { return "?" + strconv.Itoa(n) },
	id:    func(id uuid.UUID) any { return partition.Token(id) },
	// Transactions begin with the write lock already (_txlock below).
	lock: "SELECT 1",
}

// Open connects to the archive at url, within ctx, and brings its schema up to
// date: sqlite:<path>, whose folder is made, or postgres://… as libpq knows it.
func Open(ctx context.Context, url string) (*Archive, error) {
	a, err := connect(url)
	if err != nil {
		return nil, err
	}
	if err := a.migrate(ctx); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("archive at %s: %w", Redact(url), err)
	}
	return a, nil
}

func connect(raw string) (*Archive, error) {
	scheme, rest, _ := strings.Cut(raw, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(strings.TrimPrefix(rest, "//"))
	case "postgres", "postgresql":
		db, err := sql.Open("pgx", raw)
		if err != nil {
			return nil, fmt.Errorf("archive at %s: %w", Redact(raw), errors.New("not a PostgreSQL URL"))
		}
		db.SetMaxOpenConns(4 * runtime.GOMAXPROCS(0))
		db.SetMaxIdleConns(2 * runtime.GOMAXPROCS(0))
		db.SetConnMaxLifetime(30 * time.Minute) // so that a failover is noticed in the end
		return &Archive{db: db, d: postgres}, nil
	}
	return nil, fmt.Errorf("archive URL %s: use sqlite:<path> or postgres://user:password@host/database", Redact(raw))
}

func openSQLite(path string) (*Archive, error) {
	if path == "" {
		return nil, errors.New("archive URL sqlite: has no path: use sqlite:./data/archive.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("archive at sqlite:%s: %w", path, err)
	}
	// A commit must be on the disk, as the live session is deleted after it: FULL.
	// WAL lets readers go on meanwhile.
	options := "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+options)
	if err != nil {
		return nil, fmt.Errorf("archive at sqlite:%s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	return &Archive{db: db, d: sqlite}, nil
}

// Redact returns an archive's URL without its password.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		if strings.HasPrefix(raw, "sqlite:") {
			return raw
		}
		return "(malformed)"
	}
	rest, _, _ = strings.Cut(rest, "?") // may hold a password too
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + ":***" + rest[at:]
	}
	return scheme + "://" + rest
}
