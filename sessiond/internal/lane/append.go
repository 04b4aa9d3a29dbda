package lane

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// AppendLua defines the Lua functions clock() and append(), for scripts that
// append entries together with what else they write.
//
//go:embed append.lua
var AppendLua string

// SeenFor is how long dedupe keys are remembered after the last append to a live
// session, and EndedFor how long after its last when it is archived: those who
// repeat an append do so within seconds, and at 600 calls a second each hour is
// two million keys.
const (
	SeenFor  = 24 * time.Hour
	EndedFor = time.Hour
)

// Tombstone is the member of [SeenKey] that marks an archived session.
const Tombstone = ""

// ArgsPerEntry is the number of script arguments that AppendArgs yields for
// each entry.
const ArgsPerEntry = 4

// AppendArgs returns the keys and arguments by which AppendLua's append takes
// entries: one key each, the lane, and [ArgsPerEntry] arguments each. All
// entries must be of session.
func AppendArgs(session uuid.UUID, entries []Entry) (keys []string, args []any, err error) {
	for _, e := range entries {
		if err := e.Valid(); err != nil {
			return nil, nil, err
		}
		if e.Session != session {
			return nil, nil, fmt.Errorf("lane: entry of session %s appended with session %s", e.Session, session)
		}
		text, err := encode(e)
		if err != nil {
			return nil, nil, err
		}
		ref := e.Ref()
		keys = append(keys, ref.Key())
		args = append(args, ref.Member(), ref.Target+" "+e.DedupeKey, text, PolicyOf(e.Kind).Cap)
	}
	return keys, args, nil
}

// Result says what became of an appended entry.
type Result int

// Duplicate means that the dedupe key was seen before. Dropped means that the
// lane was full of undelivered entries and this one of a kind that may be lost.
const (
	Duplicate Result = 0
	Queued    Result = 1
	Dropped   Result = 2
)
