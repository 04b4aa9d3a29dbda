// Package keys derives the secrets of sessiond, each for one purpose, from the
// one master secret that an operator has to keep.
package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Set holds one key for each purpose.
type Set struct {
	// Tag encrypts the session into our SIP tags.
	Tag []byte
	// Reply signs replyIds.
	Reply []byte
	// Partition maps Call-IDs to partitions, so that nobody outside can choose one.
	Partition []byte

	seal cipher.AEAD
}

// Derive returns the keys of a master secret of at least 32 bytes.
func Derive(master []byte) (*Set, error) {
	if len(master) < 32 {
		return nil, fmt.Errorf("secret: %d bytes, need at least 32", len(master))
	}
	var errs []error
	key := func(purpose string) []byte {
		k, err := hkdf.Key(sha256.New, master, nil, "callmesh/"+purpose, 32)
		errs = append(errs, err)
		return k
	}
	set := &Set{Tag: key("tag"), Reply: key("reply"), Partition: key("partition")}
	block, err := aes.NewCipher(key("seal"))
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	set.seal, err = cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return set, nil
}

// Seal encrypts a secret for storage; context binds it to its place, so that a
// sealed value copied elsewhere does not open.
func (s *Set) Seal(plain []byte, context string) []byte {
	nonce := make([]byte, s.seal.NonceSize())
	rand.Read(nonce) // never fails: crypto/rand aborts the program instead
	return s.seal.Seal(nonce, nonce, plain, []byte(context))
}

// Open returns what Seal sealed in the same context.
func (s *Set) Open(sealed []byte, context string) ([]byte, error) {
	n := s.seal.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("sealed secret: too short")
	}
	plain, err := s.seal.Open(nil, sealed[:n], sealed[n:], []byte(context))
	if err != nil {
		return nil, fmt.Errorf("sealed secret of %s: %w", context, err)
	}
	return plain, nil
}
