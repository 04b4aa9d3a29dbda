// Package tag makes the local tags of our SIP dialogs. A tag carries the
// session and the leg it belongs to, sealed, so that any instance finds the
// owner of an in-dialog request without a look-up, and nobody outside can read
// a session id from a trace or make up a tag that leads to somebody's call.
package tag

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// SecretSize is the length of the secret that all instances share.
const SecretSize = 32

const (
	plainSize = 16 + 1 // session id, leg
	macSize   = 8      // 64 bits: guessing costs a request each
	// Length of a tag: 25 bytes are exactly 40 digits of base32.
	Length = (plainSize + macSize) * 8 / 5
)

// ErrForeign says that a tag is not one of ours, or not of this deployment.
var ErrForeign = errors.New("tag: not ours")

// Lower case: some peers fold tags to lower case, few to upper case.
var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Sealer makes and opens tags. It is safe for concurrent use.
//
// The construction is a synthetic IV (as RFC 5297): the MAC over the plain text
// is the IV of the encryption. The same leg gets the same tag every time, so an
// instance that takes a call over needs nothing but the session id, and no
// counter or random number can be used twice.
type Sealer struct {
	block  cipher.Block
	macKey []byte
}

// NewSealer derives the keys from the deployment's secret.
func NewSealer(secret []byte) (*Sealer, error) {
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("tag: secret has %d bytes, want %d", len(secret), SecretSize)
	}
	block, err := aes.NewCipher(derive(secret, "callmesh tag encryption")[:16])
	if err != nil {
		return nil, fmt.Errorf("tag: %w", err)
	}
	return &Sealer{block: block, macKey: derive(secret, "callmesh tag authentication")}, nil
}

func derive(secret []byte, label string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(label))
	return h.Sum(nil)
}

// Make returns the tag of a session's leg.
func (s *Sealer) Make(session uuid.UUID, leg uint8) string {
	var plain [plainSize]byte
	copy(plain[:], session[:])
	plain[16] = leg

	var sealed [macSize + plainSize]byte
	s.mac(sealed[:macSize], plain[:])
	s.crypt(sealed[macSize:], plain[:], sealed[:macSize])
	return alphabet.EncodeToString(sealed[:])
}

// Parse returns what Make put into a tag. It fails with ErrForeign for
// anything else, whatever it looks like.
func (s *Sealer) Parse(tag string) (session uuid.UUID, leg uint8, err error) {
	if len(tag) != Length {
		return uuid.Nil, 0, ErrForeign
	}
	sealed, err := alphabet.DecodeString(strings.ToLower(tag))
	if err != nil {
		return uuid.Nil, 0, ErrForeign
	}
	var plain [plainSize]byte
	var want [macSize]byte
	s.crypt(plain[:], sealed[macSize:], sealed[:macSize])
	s.mac(want[:], plain[:])
	if !hmac.Equal(want[:], sealed[:macSize]) { // constant time
		return uuid.Nil, 0, ErrForeign
	}
	return uuid.UUID(plain[:16]), plain[16], nil
}

func (s *Sealer) mac(dst, plain []byte) {
	h := hmac.New(sha256.New, s.macKey)
	h.Write(plain)
	copy(dst, h.Sum(nil))
}

func (s *Sealer) crypt(dst, src, mac []byte) {
	var iv [aes.BlockSize]byte
	copy(iv[:], mac)
	cipher.NewCTR(s.block, iv[:]).XORKeyStream(dst, src)
}
