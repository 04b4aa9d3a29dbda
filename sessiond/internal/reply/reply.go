// Package reply makes and reads replyIds: what a customer's application copies
// from a callback into a later request about the same call (contract §1.1).
package reply

import (
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
)

// ID is what a replyId says. Participant and Command are zero where the
// callback was not about one.
type ID struct {
	Domain      string
	Session     uuid.UUID
	Participant uuid.UUID
	Command     string
	// Server is the node that made it, for people who read logs.
	Server string
}

type claims struct {
	Domain      string `json:"domain"`
	Session     string `json:"sessionId"`
	Participant string `json:"participantId,omitempty"`
	Command     string `json:"commandId,omitempty"`
	Server      string `json:"ivrServer,omitempty"`
	jwt.RegisteredClaims
}

// audience keeps replyIds apart from API tokens.
const audience = "callmesh/reply"

// Signer signs and verifies replyIds.
type Signer struct {
	key    []byte
	now    func() time.Time
	parser *jwt.Parser
}

// NewSigner returns a signer with the key.
func NewSigner(key []byte, now func() time.Time) *Signer {
	return &Signer{key: key, now: now, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithAudience(audience), jwt.WithTimeFunc(now),
	)}
}

// Sign returns the replyId. It lives as long as its session, hence no expiry.
func (s *Signer) Sign(id ID) (string, error) {
	c := claims{Domain: id.Domain, Session: id.Session.String(), Command: id.Command, Server: id.Server}
	if id.Participant != uuid.Nil {
		c.Participant = id.Participant.String()
	}
	c.Audience, c.IssuedAt = jwt.ClaimStrings{audience}, jwt.NewNumericDate(s.now())
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.key)
}

// Verify reads a replyId for a request about domain. A forged one, and one of
// another domain, is REPLY_ID_INVALID: the two are not told apart.
func (s *Signer) Verify(token, domain string) (ID, error) {
	if token == "" {
		return ID{}, fault.New(fault.BadRequest, "replyId is required").On("replyId")
	}
	invalid := fault.New(fault.ReplyIDInvalid, "replyId is unknown").On("replyId")
	var c claims
	if _, err := s.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.key, nil }); err != nil {
		return ID{}, invalid.Because(err)
	}
	if c.Domain != domain {
		return ID{}, invalid
	}
	id := ID{Domain: c.Domain, Command: c.Command, Server: c.Server}
	var err error
	if id.Session, err = uuid.Parse(c.Session); err != nil {
		return ID{}, invalid.Because(err)
	}
	if c.Participant != "" {
		if id.Participant, err = uuid.Parse(c.Participant); err != nil {
			return ID{}, invalid.Because(err)
		}
	}
	return id, nil
}
