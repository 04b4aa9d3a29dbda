package control

import (
	"context"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/callback"
)

// decide asks the application what to do with a new call, and falls back where
// it gives no usable answer (contract §1.5, §1.12).
func (c *Control) decide(ctx context.Context, l *live, d *directorypb.Domain) call.Decision {
	f := d.GetApplication().GetFallback()
	fallback := callback.Fallback{Action: f.GetAction(), Prompt: f.GetPrompt(), Always: f.GetAlways()}
	if fallback.Always {
		return fallback.Force()
	}
	return fallback.FallBack(c.newCall(ctx, l, d))
}

func (c *Control) newCall(ctx context.Context, l *live, d *directorypb.Domain) call.Decision {
	s := l.snapshot()
	transaction := uuid.NewString()
	env, err := c.envelope(s, s.Participants[0].ID, "", transaction)
	if err != nil {
		l.log.ErrorContext(ctx, "newCall cannot be worded", "err", err)
		return callback.Failed("internal error")
	}
	body, err := callback.NewCall(s, c.site(d), env)
	if err != nil {
		l.log.ErrorContext(ctx, "newCall cannot be worded", "err", err)
		return callback.Failed("internal error")
	}
	answer, err := c.Application.Ask(traced(ctx, s), d, Question{Session: s.ID, Name: "newCall", Transaction: transaction, Body: body})
	if err != nil {
		return callback.Failed(fault.From(err).Message)
	}
	return callback.Decide(answer)
}
