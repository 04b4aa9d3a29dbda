// Package partition ties every id of the platform to one of 64 partitions, so
// that an id found in a URL, a token or a SIP tag leads to its place in the
// store without a look-up, and so that all keys of a session share one Redis
// Cluster slot.
package partition

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// Count is the number of partitions. It is a constant of every deployment: ids
// handed out under another count would point to the wrong slot.
const Count = 64

// The partition sits in the low bits of the last byte: they belong to the
// random part of a UUIDv7 (RFC 9562 §5.7), clear of timestamp, version, variant
// and the sub-millisecond counter that keeps ids of one process in order.
const mask = Count - 1

// NewID returns a new UUIDv7 that carries partition p. It panics where p is no
// partition, as that is a fault of the program and never of its input.
func NewID(p int) uuid.UUID {
	check(p)
	id := uuid.Must(uuid.NewV7())
	id[15] = id[15]&^mask | byte(p)
	return id
}

// Of returns the partition that id carries.
func Of(id uuid.UUID) int { return int(id[15] & mask) }

// Random returns a partition for something that has no key yet, such as a
// session begun by REST.
func Random() int {
	var b [1]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return int(b[0] & mask)
}

// ForKey returns the partition of a text chosen by a stranger, such as a SIP
// Call-ID. The hash is keyed, so that nobody outside can aim at one partition.
func ForKey(secret []byte, text string) int {
	sum := Digest(secret, text)
	return int(sum[0] & mask)
}

// Digest is the keyed hash behind [ForKey]. Keys that live in a slot of their
// own use it as their hash tag.
func Digest(secret []byte, text string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return [sha256.Size]byte(mac.Sum(nil))
}

// Slot returns the Redis hash tag of partition p, such as "{p17}".
func Slot(p int) string {
	check(p)
	return slots[p]
}

// SlotOf returns the Redis hash tag of the partition that id carries.
func SlotOf(id uuid.UUID) string { return slots[Of(id)] }

var slots = func() (s [Count]string) {
	for p := range s {
		s[p] = "{p" + strconv.Itoa(p) + "}"
	}
	return s
}()

// Token writes id as 32 hex digits, the form in which every API but
// mediaservice shows it.
func Token(id uuid.UUID) string { return hex.EncodeToString(id[:]) }

// ParseID reads an id written as a UUID (36 characters) or as a token (32 hex
// digits), in either case. Other forms that UUID parsers accept, such as braces
// and urn: prefixes, are refused: an id has one canonical form per API.
func ParseID(text string) (uuid.UUID, error) {
	if len(text) != 36 && len(text) != 32 {
		return uuid.Nil, fmt.Errorf("partition: %d characters are neither a UUID nor 32 hex digits", len(text))
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("partition: not an id: %w", err)
	}
	return id, nil
}

func check(p int) {
	if p < 0 || p >= Count {
		panic(fmt.Sprintf("partition: %d is not within 0 to %d", p, Count-1))
	}
}
