package archive

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Files are named <number>_<what>.sql and are never changed once released.
//
//go:embed migrations
var migrations embed.FS

// migrate applies what the database does not have yet, in one transaction. A
// database that is ahead of this program, as during a roll-out, is left alone.
func (a *Archive) migrate(ctx context.Context) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, a.d.lock); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS archive_migrations (version INTEGER PRIMARY KEY)"); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	var at sql.NullInt64
	if err := tx.QueryRowContext(ctx, "SELECT max(version) FROM archive_migrations").Scan(&at); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	names, err := fs.Glob(migrations, path.Join("migrations", a.d.name, "*.sql")) // sorted
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("migration %s has no number: %w", name, err)
		}
		if version <= at.Int64 {
			continue
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO archive_migrations (version) VALUES ("+a.d.param(1)+")", version); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}
