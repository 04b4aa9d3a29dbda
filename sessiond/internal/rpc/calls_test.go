package rpc

import (
	"strings"
	"testing"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// neighbours are two tenants; the caller's key is the first one's.
type neighbours struct{}

func (neighbours) Domain(name string) (*directorypb.Domain, bool) {
	return &directorypb.Domain{Name: name}, name == "mine.test" || name == "secretive.test"
}

func (neighbours) Numbered(number int64) (*directorypb.Domain, bool) {
	return &directorypb.Domain{Name: "secretive.test"}, number == 2
}

func TestOtherTenantsAreNotNamed(t *testing.T) {
	s := &Calls{Domains: neighbours{}}
	ctx := principal.With(t.Context(), principal.Principal{Subject: "k", Domains: []string{"mine.test"}, Roles: []string{"domain"}})
	var told []string
	for _, path := range []string{"2", "3", "secretive.test", "nowhere.test"} {
		_, err := s.GetSession(ctx, &callspb.GetSessionRequest{Domain: path, Token: "0"})
		if fault.ReasonOf(err) != fault.DomainForbidden || strings.Contains(err.Error(), "secretive") {
			t.Errorf("%s: %v", path, err)
			continue
		}
		told = append(told, err.Error())
	}
	for _, text := range told {
		if text != told[0] {
			t.Errorf("%q tells more than %q", text, told[0])
		}
	}
	if _, err := s.GetSession(ctx, &callspb.GetSessionRequest{Domain: "self", Token: "0"}); fault.ReasonOf(err) != fault.SessionNotFound {
		t.Errorf("self: %v", err)
	}
}
