// Package media is how dialogues reach the legs that they play to: it starts and
// stops steps, brings mediad the clips that it lacks, and keeps one stream of
// events open to each mediad instance.
package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/flight"
	"github.com/callmesh/callmesh/kit/fault"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// Leg is where a dialogue plays.
type Leg struct {
	Address, ID string
	Grant       uint64
}

// Sink takes the events of a leg, one at a time, with the sequence number of
// each; 0 when the event is not the leg's own. It must not block.
type Sink func(ev cycle.Event, sequence uint64)

// Dialer opens connections to mediad instances.
type Dialer interface {
	Instance(address string) (*grpc.ClientConn, error)
	Forget(address string)
}

// Errors of commands to a leg.
var (
	// ErrStale: somebody else commands the leg now.
	ErrStale = errors.New("media: the leg has been granted anew")
	// ErrGone: mediad does not hold the leg.
	ErrGone = errors.New("media: the leg is gone")
)

// Options is what a client needs; all fields are required.
type Options struct {
	Dialer Dialer
	// Controller names this ivrd to mediad.
	Controller string
	Log        *slog.Logger
	// Patience is how long a mediad may be out of reach before its legs count as
	// lost.
	Patience time.Duration
}

// Client reaches all mediad instances.
type Client struct {
	opts Options
	puts *flight.Group[struct{}]

	base   context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*watch
	closed  bool
}

const (
	// putTimeout bounds sending one clip to one mediad.
	putTimeout = 20 * time.Second
	// chunk is how much of a clip goes into one message.
	chunk = 64 << 10
	// rounds of "put these first" that a step may take: clips can be evicted
	// between being put and being played, but not forever.
	rounds = 4
	retry  = 100 * time.Millisecond
)

// New returns a client without connections.
func New(o Options) *Client {
	base, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the life of the whole, which Close ends
	return &Client{
		opts: o, puts: flight.NewGroup[struct{}](putTimeout),
		base: base, cancel: cancel, watches: map[string]*watch{},
	}
}

// Close ends all streams and waits for them.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	c.puts.Close()
}

func (c *Client) at(address string) (mediapb.MediaClient, error) {
	conn, err := c.opts.Dialer.Instance(address)
	if err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	return mediapb.NewMediaClient(conn), nil
}

// Run starts a step once the leg's events can be received. samples returns the
// audio of a clip of the step.
func (c *Client) Run(ctx context.Context, leg Leg, step cycle.Step, samples func(id string) []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Patience+putTimeout)
	defer cancel()
	if err := c.ready(ctx, leg.Address); err != nil {
		return err
	}
	api, err := c.at(leg.Address)
	if err != nil {
		return err
	}
	req := &mediapb.RunStepRequest{LegId: leg.ID, Grant: leg.Grant, Controller: c.opts.Controller, Step: stepToProto(step)}
	for range rounds {
		var resp *mediapb.RunStepResponse
		err := c.persist(ctx, func() (err error) {
			resp, err = api.RunStep(ctx, req)
			return err
		})
		if err != nil {
			return err
		}
		missing := resp.GetMissingClips()
		if len(missing) == 0 {
			return nil
		}
		for _, id := range missing {
			if err := c.put(ctx, leg.Address, api, id, samples(id)); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("media: %s keeps losing the clips of a step", leg.Address)
}

// persist repeats a call while the instance cannot be reached.
func (c *Client) persist(ctx context.Context, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Patience)
	defer cancel()
	for {
		err := meaning(call())
		if err == nil || fault.ReasonOf(err) != fault.Unavailable {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return err
		}
	}
}

// put sends a clip once for all dialogues that need it there now.
func (c *Client) put(ctx context.Context, address string, api mediapb.MediaClient, id string, samples []byte) error {
	if samples == nil {
		return fmt.Errorf("media: %s asks for a clip that is not of the step", address)
	}
	_, err := c.puts.Do(ctx, address+"/"+id, func(ctx context.Context) (struct{}, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := api.PutClip(ctx)
		if err != nil {
			return struct{}{}, fmt.Errorf("media: put clip: %w", err)
		}
		for first, rest := true, samples; first || len(rest) > 0; first = false {
			n := min(chunk, len(rest))
			req := &mediapb.PutClipRequest{Samples: rest[:n]}
			if first {
				req.ClipId = id
			}
			if err := stream.Send(req); err != nil {
				break // the reason is what CloseAndRecv returns
			}
			rest = rest[n:]
		}
		if _, err := stream.CloseAndRecv(); err != nil {
			return struct{}{}, fmt.Errorf("media: put clip: %w", err)
		}
		return struct{}{}, nil
	})
	return err
}

// Interrupt stops a step; false says that it was not running any more.
func (c *Client) Interrupt(ctx context.Context, leg Leg, stepID string) (bool, error) {
	api, err := c.at(leg.Address)
	if err != nil {
		return false, err
	}
	resp, err := api.StopStep(ctx, &mediapb.StopStepRequest{LegId: leg.ID, Grant: leg.Grant, StepId: stepID})
	return resp.GetStopped(), meaning(err)
}

// Running returns the step that the leg runs, "" for none.
func (c *Client) Running(ctx context.Context, leg Leg) (stepID string, err error) {
	api, err := c.at(leg.Address)
	if err != nil {
		return "", err
	}
	err = c.persist(ctx, func() error {
		resp, err := api.GetLeg(ctx, &mediapb.GetLegRequest{LegId: leg.ID})
		stepID = resp.GetStepId()
		return err
	})
	return stepID, err
}

func meaning(err error) error {
	switch fault.ReasonOf(err) {
	case "":
		return nil
	case fault.StaleGrant:
		return ErrStale
	case fault.LegNotFound:
		return ErrGone
	}
	return err
}

func stepToProto(s cycle.Step) *mediapb.Step {
	step := &mediapb.Step{StepId: s.ID, BargeIn: bargeIn(s.BargeIn), Last: s.Last}
	for _, clip := range s.Playlist {
		step.Playlist = append(step.Playlist, clip.ID)
	}
	if d := s.Digits; d != nil {
		step.Digits = &mediapb.DigitRule{
			Flush: d.Flush, MaxDigits: uint32(d.MaxDigits), TerminationKeys: d.TerminationKeys,
			FirstTimeout: durationpb.New(d.FirstTimeout), BetweenTimeout: durationpb.New(d.BetweenTimeout),
		}
	}
	if s.After != nil {
		step.After = durationpb.New(*s.After)
	}
	if bg := s.Background; bg != nil {
		step.Background = &mediapb.Background{Stop: bg.Clip == nil}
		if bg.Clip != nil {
			step.Background.ClipId = bg.Clip.ID
			step.Background.RepeatPause = durationpb.New(bg.RepeatPause)
		}
	}
	return step
}

func bargeIn(b command.BargeIn) mediapb.BargeIn {
	switch b {
	case command.BargeInCurrent:
		return mediapb.BargeIn_BARGE_IN_CURRENT
	case command.BargeInAll:
		return mediapb.BargeIn_BARGE_IN_ALL
	default:
		return mediapb.BargeIn_BARGE_IN_NONE
	}
}
