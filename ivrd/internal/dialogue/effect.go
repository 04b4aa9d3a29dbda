package dialogue

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/media"
	"github.com/callmesh/callmesh/ivrd/internal/phrase"
	"github.com/callmesh/callmesh/ivrd/internal/session"
)

const (
	// saveTimeout keeps a slow store from holding up a call.
	saveTimeout = time.Second
	// awayFor is how long a store that failed is left alone.
	awayFor = time.Second
	// retry is the pause before sessiond is tried again.
	retry = 200 * time.Millisecond
	// lateResult is how long the result of a step that is not running any more may
	// take to arrive on the stream, before the step counts as never started.
	lateResult = 500 * time.Millisecond
)

// do carries out one effect. What comes of it is posted as an event; an effect
// that was cut short posts nothing, as what cut it short is waiting already.
func (d *dialogue) do(now cursor.Cursor, effect cycle.Effect) {
	switch e := effect.(type) {
	case cycle.Ask:
		d.ask(now)
	case cycle.Resolve:
		d.resolve(now)
	case cycle.Run:
		d.run(e.Step)
	case cycle.Interrupt:
		d.interrupt(e.StepID)
	case cycle.Await:
		d.await(e.StepID)
	case cycle.Alarm:
		d.alarm(now, e)
	case cycle.End:
		d.end(now, e)
	case cycle.Forget:
		d.quit()
		d.service.forget(d, now)
	}
}

func (d *dialogue) ask(now cursor.Cursor) {
	ctx, done := d.abortable(false)
	defer done()
	var answer []byte
	err := d.persist(ctx, d.service.limits.Patience, func(ctx context.Context) (err error) {
		answer, err = d.service.sessions.Ask(ctx, now.Dialogue, now.State.CommandID(), now.State.Question)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	ev, result := d.answered(ctx, answer, err)
	d.service.metrics.commands.WithLabelValues(result).Inc()
	d.post(ev, 0)
}

// answered says what an answer, or its absence, means (contract §1.8.4, §1.12).
func (d *dialogue) answered(ctx context.Context, answer []byte, err error) (cycle.Event, string) {
	refused, isRefused := errors.AsType[*session.Refused](err)
	switch {
	case errors.Is(err, session.ErrRevoked):
		return cycle.Revoked{}, "revoked"
	case isRefused && refused.Empty, err == nil && len(bytes.TrimSpace(answer)) == 0:
		return failed(cycle.ErrorEmptyBody, nil), "empty"
	case isRefused:
		return failed(cycle.ErrorRequest, map[string]string{"reason": refused.Reason}), "failed"
	case err != nil:
		d.log.ErrorContext(ctx, "getIvrCommand could not be asked", "err", err)
		return failed(cycle.ErrorRequest, map[string]string{"reason": "the question could not be put"}), "failed"
	}
	cmd, err := command.Parse(answer)
	if err != nil {
		details := map[string]string{"reason": err.Error()}
		if invalid, ok := errors.AsType[*command.Error](err); ok && invalid.Field != "" {
			details["field"] = invalid.Field
		}
		return failed(cycle.ErrorCommand, details), "invalid"
	}
	return cycle.Answered{Command: cmd}, "answered"
}

func failed(name string, details map[string]string) cycle.Event {
	return cycle.Failed{Failure: cycle.Failure{Error: name, Details: details}}
}

func (d *dialogue) resolve(now cursor.Cursor) {
	ctx, done := d.abortable(true)
	defer done()
	res, err := d.service.phrases.Resolve(ctx, now.Dialogue.Domain, now.Dialogue.AllowPrivate, *now.State.Command)
	if err != nil {
		return
	}
	d.audio = res
	ev := cycle.Resolved{Problems: res.Problems}
	for _, clip := range res.Clips {
		ev.Clips = append(ev.Clips, cycle.Clip{ID: clip.ID})
	}
	if res.Background != nil {
		ev.Background = &cycle.Clip{ID: res.Background.ID}
	}
	d.post(ev, 0)
}

func (d *dialogue) run(step cycle.Step) {
	ctx, done := d.abortable(false)
	defer done()
	audio := d.audio
	d.audio = phrase.Resolution{} // the cache decides what stays in memory
	err := d.service.media.Run(ctx, d.leg(), step, func(id string) []byte { return samples(audio, id) })
	if ctx.Err() == nil {
		d.mediaFailed(ctx, err)
	}
}

func samples(res phrase.Resolution, id string) []byte {
	for _, clip := range res.Clips {
		if clip.ID == id {
			return clip.Samples
		}
	}
	if res.Background != nil && res.Background.ID == id {
		return res.Background.Samples
	}
	return nil
}

// mediaFailed posts what an error of mediad means; nil means nothing.
func (d *dialogue) mediaFailed(ctx context.Context, err error) {
	switch {
	case err == nil:
	case errors.Is(err, media.ErrStale):
		d.post(cycle.Revoked{}, 0)
	case errors.Is(err, media.ErrGone):
		d.post(failed(cycle.ErrorMediaServer, map[string]string{"reason": "mediad does not hold the leg"}), 0)
	default:
		d.log.ErrorContext(ctx, "mediad failed", "err", err)
		d.post(failed(cycle.ErrorMediaServer, map[string]string{"reason": "mediad cannot be reached"}), 0)
	}
}

func (d *dialogue) interrupt(stepID string) {
	ctx, done := d.abortable(false)
	defer done()
	// Not running any more is fine: its result is on the way.
	_, err := d.service.media.Interrupt(ctx, d.leg(), stepID)
	if ctx.Err() == nil {
		d.mediaFailed(ctx, err)
	}
}

// await finds out whether the step that a former owner saved is running. If not,
// its result may still be on the way.
func (d *dialogue) await(stepID string) {
	ctx, done := d.abortable(false)
	defer done()
	running, err := d.service.media.Running(ctx, d.leg())
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		d.mediaFailed(ctx, err)
		return
	}
	if running == stepID {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		d.missing = time.AfterFunc(lateResult, func() { d.post(cycle.StepMissing{StepID: stepID}, 0) })
	}
}

func (d *dialogue) alarm(now cursor.Cursor, a cycle.Alarm) {
	d.log.InfoContext(d.ctx, "dialogue alarm", "command", now.State.CommandID(), "error", a.Error)
	err := d.persist(d.ctx, d.service.limits.Patience, func(ctx context.Context) error {
		return d.service.sessions.Alarm(ctx, now.Dialogue, a)
	})
	if err != nil && !errors.Is(err, session.ErrRevoked) && d.ctx.Err() == nil {
		d.log.ErrorContext(d.ctx, "alarm could not be handed over", "error", a.Error, "err", err)
	}
}

// end holds on for longer than other calls: a call whose end nobody learns of
// stays open in silence.
func (d *dialogue) end(now cursor.Cursor, e cycle.End) {
	err := d.persist(d.ctx, endPatience, func(ctx context.Context) error {
		return d.service.sessions.End(ctx, now.Dialogue, e)
	})
	if d.ctx.Err() != nil {
		return
	}
	if err != nil && !errors.Is(err, session.ErrRevoked) {
		d.log.ErrorContext(d.ctx, "end of the dialogue could not be told", "err", err)
	}
	d.post(cycle.Told{}, 0)
}

// endPatience outlasts the take-over of a session from a dead sessiond.
const endPatience = time.Minute

// persist repeats a call while no sessiond can be reached.
func (d *dialogue) persist(ctx context.Context, patience time.Duration, call func(context.Context) error) error {
	giveUp := d.service.now().Add(patience)
	for {
		err := call(ctx)
		if !errors.Is(err, session.ErrUnreachable) || d.service.now().After(giveUp) {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
