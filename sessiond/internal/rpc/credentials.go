package rpc

import (
	"context"

	"github.com/callmesh/callmesh/kit/fault"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// Keys finds whose key has a hash.
type Keys interface {
	Key(sum []byte) (domain string, key *directorypb.Key, ok bool)
}

// Credentials tells the gateway whom a key belongs to.
type Credentials struct {
	directorypb.UnsafeCredentialsServer
	Keys Keys
}

// VerifyKey returns the principal of an API key.
func (s *Credentials) VerifyKey(_ context.Context, req *directorypb.VerifyKeyRequest) (*directorypb.VerifyKeyResponse, error) {
	domain, key, ok := s.Keys.Key(req.GetKeySha256())
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "credential is missing or invalid")
	}
	return &directorypb.VerifyKeyResponse{Subject: key.GetId(), Domains: []string{domain}, Roles: key.GetRoles()}, nil
}
