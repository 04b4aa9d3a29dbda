package control

import (
	"context"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Adopt takes over a session that was claimed from a dead instance. The call
// is ended, and accounted for as any other.
func (c *Control) Adopt(_ context.Context, st store.Stored) error {
	rec, err := record.Decode(st.Record)
	if err != nil {
		return err
	}
	if rec.Session.Stage == call.Done {
		return nil // only the archiver is left to act, and needs no owner
	}
	l := &live{
		c: c, id: st.ID, log: c.Log.With("session", partition.Token(st.ID), "domain", st.Domain), epoch: st.Epoch,
		session: rec.Session, dialogs: map[uint8]dialog.Dialog{}, talks: map[uint8]*talk{}, version: st.Version,
	}
	for _, d := range rec.Dialogs {
		l.dialogs[uint8(d.GetLeg())] = dialog.FromRecord(d)
	}
	c.add(l)
	l.post(call.Orphaned{})
	return nil
}
