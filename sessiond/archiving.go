package sessiond

import (
	"context"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

type archiving struct{}

func newArchiving(string, daemon.Env, *store.Store, *lease.Leases) (*archiving, error) {
	return &archiving{}, nil
}
func (a *archiving) part() run.Part { return run.Part{Name: "archive"} }
func (a *archiving) Session(context.Context, string, uuid.UUID) (call.Session, error) {
	return call.Session{}, store.ErrNotFound
}
