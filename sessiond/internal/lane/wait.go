package lane

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Wait returns once all entries are delivered, or given up, that the lane of
// session and target held when it was called: true; or false after at most limit.
// A question waits so for the notifications before it (contract §1.4: 2 s), and
// is asked in either case.
func (d *Deliverer) Wait(ctx context.Context, session uuid.UUID, target string, limit time.Duration) bool {
	ref := Ref{Session: session, Target: TargetName(target)}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Looked at before each question to Redis: what is delivered in between counts.
	progress, forget := d.watch(ref)
	defer func() { forget() }()
	_, last, err := d.span(ctx, ref)
	if err != nil || last == 0 {
		return err == nil
	}
	d.mu.Lock()
	_, ours := d.items[ref]
	d.mu.Unlock()
	if !ours {
		d.Kick(ref)
	}
	// For lanes that another instance delivers.
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-progress:
		case <-poll.C:
		}
		forget()
		progress, forget = d.watch(ref)
		head, tail, err := d.span(ctx, ref)
		if err == nil && (tail == 0 || head >= last) {
			return true
		}
	}
}

// span returns the number of the last entry delivered and of the last one
// appended; zeros for an empty lane.
func (d *Deliverer) span(ctx context.Context, ref Ref) (head, tail int64, err error) {
	values, err := d.rdb.HMGet(ctx, ref.Key(), "head", "tail").Result()
	if err != nil {
		return 0, 0, err
	}
	for i, to := range []*int64{&head, &tail} {
		if text, ok := values[i].(string); ok {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil {
				return 0, 0, err
			}
		}
	}
	return head, tail, nil
}

// watch returns a channel that is closed when an attempt at the lane is settled,
// and a func to stop watching.
func (d *Deliverer) watch(ref Ref) (<-chan struct{}, func()) {
	ch := make(chan struct{})
	d.mu.Lock()
	d.waiting[ref] = append(d.waiting[ref], ch)
	d.mu.Unlock()
	return ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if rest := slices.DeleteFunc(d.waiting[ref], func(c chan struct{}) bool { return c == ch }); len(rest) > 0 {
			d.waiting[ref] = rest
		} else {
			delete(d.waiting, ref)
		}
	}
}

func (d *Deliverer) progressed(ref Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ch := range d.waiting[ref] {
		close(ch)
	}
	delete(d.waiting, ref)
}
