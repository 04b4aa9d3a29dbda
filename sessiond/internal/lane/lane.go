// Package lane delivers notifications to customers' applications. A lane is the
// queue of one session towards one target: its entries arrive in order, each at
// least once, and no lane waits for another, so that a dead status endpoint does
// not hold up the application.
//
// Entries are appended by the script that writes the change of state they tell
// of (see package store), so that neither exists without the other. They are
// delivered by the instance that appended them or, once they are overdue, by the
// holder of the partition's lease. Both take a lane by the same script, which
// hands it to one of them at a time under a fencing number.
package lane

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/partition"
)

// Kind is what a notification tells; it decides how long delivery is tried.
type Kind string

// The notifications of the APIs. A kind that is not listed is retried like
// SessionCompleted: better a late notification than a lost one.
const (
	CallAnswered     Kind = "callAnswered"
	CallNotify       Kind = "callNotify"
	Alarm            Kind = "alarm"
	SessionStatus    Kind = "sessionStatus"
	RecordingReady   Kind = "recordingReady"
	FileRecorded     Kind = "fileRecorded"
	SessionCompleted Kind = "sessionCompleted"
	CDR              Kind = "cdr"
)

// Entry is one notification. It carries no credential: whoever sends it looks
// the application up anew, as a key may have changed within 72 hours.
type Entry struct {
	// ID is the httpTransactionId: the same at each attempt.
	ID      string    `json:"id"`
	Session uuid.UUID `json:"session"`
	Domain  string    `json:"domain"`
	// Target names the lane: the base URL of the application, or of an alarm or
	// status endpoint. URL is where this entry goes.
	Target string `json:"target"`
	URL    string `json:"url"`
	Kind   Kind   `json:"kind"`
	// DedupeKey makes an append effective once per session and target, whoever
	// repeats it: "sessionCompleted", "recordingReady:<id>".
	DedupeKey string `json:"dedupe"`
	Body      []byte `json:"body"`
}

// Ref returns the lane of e.
func (e Entry) Ref() Ref { return Ref{Session: e.Session, Target: TargetName(e.Target)} }

// Valid says what e lacks.
func (e Entry) Valid() error {
	switch {
	case e.ID == "":
		return fmt.Errorf("lane: entry %s of session %s has no id", e.Kind, e.Session)
	case e.DedupeKey == "":
		return fmt.Errorf("lane: entry %s of session %s has no dedupe key", e.Kind, e.Session)
	case e.Target == "" || e.URL == "":
		return fmt.Errorf("lane: entry %s of session %s has no target", e.Kind, e.Session)
	case e.Session == uuid.Nil:
		return fmt.Errorf("lane: entry %s has no session", e.Kind)
	case len(e.Body) > MaxBody:
		return fmt.Errorf("lane: entry %s of session %s has %d bytes, more than %d", e.Kind, e.Session, len(e.Body), MaxBody)
	}
	return nil
}

// MaxBody bounds a notification's body.
const MaxBody = 256 << 10

// Delivery is one attempt at an entry.
type Delivery struct {
	Entry
	// Attempt counts from 1. An attempt that a crash cut short counts too.
	Attempt int
	// Age is the time since the entry was appended, by the store's clock.
	Age time.Duration
}

// Ref names a lane.
type Ref struct {
	Session uuid.UUID
	// Target is a TargetName.
	Target string
}

// TargetName shortens a target URL to what a lane's key holds: the host, which
// bounds concurrency, and a digest of the whole, as a query may hold secrets.
func TargetName(target string) string {
	host := "invalid"
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		host = strings.Map(func(r rune) rune {
			if strings.ContainsRune("{}~", r) { // our separators
				return '_'
			}
			return r
		}, strings.ToLower(u.Host))
	}
	sum := sha256.Sum256([]byte(target))
	return host + "~" + hex.EncodeToString(sum[:8])
}

// Host is the host that the lane's entries go to.
func (r Ref) Host() string {
	host, _, _ := strings.Cut(r.Target, "~")
	return host
}

// Member is the lane's name in its partition's list of next attempts.
func (r Ref) Member() string { return partition.Token(r.Session) + "/" + r.Target }

func parseMember(member string) (Ref, error) {
	token, target, ok := strings.Cut(member, "/")
	if !ok {
		return Ref{}, fmt.Errorf("lane: %q names no lane", member)
	}
	id, err := partition.ParseID(token)
	if err != nil {
		return Ref{}, fmt.Errorf("lane: %q names no lane: %w", member, err)
	}
	return Ref{Session: id, Target: target}, nil
}

// Key is the lane itself: its entries by number, and how far they are delivered.
func (r Ref) Key() string {
	return "cm:" + partition.SlotOf(r.Session) + ":out:" + partition.Token(r.Session) + ":" + r.Target
}

// SeenKey holds the dedupe keys of a session.
func SeenKey(session uuid.UUID) string {
	return "cm:" + partition.SlotOf(session) + ":seen:" + partition.Token(session)
}

// DueKey holds the lanes of partition p that have entries, by the time of their
// next attempt.
func DueKey(p int) string { return "cm:" + partition.Slot(p) + ":due" }

func fenceKey(p int) string { return "cm:" + partition.Slot(p) + ":due:fence" }
func deadKey(p int) string  { return "cm:" + partition.Slot(p) + ":dead" }
func deadBodyKey(p int) string {
	return "cm:" + partition.Slot(p) + ":dead:letters"
}

// encode writes an entry as the lane holds it.
func encode(e Entry) (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("lane: encode: %w", err)
	}
	return string(b), nil
}
