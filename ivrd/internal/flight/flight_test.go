package flight_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/flight"
)

func TestSharedByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.NewGroup[int](time.Minute)
		runs := 0
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, err := g.Do(t.Context(), "k", func(context.Context) (int, error) {
					runs++
					<-time.After(time.Second) // by the bubble's clock
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		wg.Wait()
		if runs != 1 {
			t.Errorf("worked %d times", runs)
		}
		if v, err := g.Do(t.Context(), "k", func(context.Context) (int, error) { return 8, nil }); v != 8 || err != nil {
			t.Errorf("the next time: %d, %v", v, err)
		}
		g.Close()
	})
}

// TestWorkOutlivesWhoAskedFirst: one that gives up takes nothing from the others,
// but the work's own deadline ends it.
func TestWorkOutlivesWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.NewGroup[int](time.Minute)
		defer g.Close()
		work := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.Do(impatient, "k", work); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
				t.Errorf("the impatient got %v after %s", err, time.Since(begun))
			}
		})
		synctest.Wait()
		if _, err := g.Do(t.Context(), "k", work); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("the patient got %v after %s", err, time.Since(begun))
		}
		wg.Wait()
	})
}

func TestPanicIsAnError(t *testing.T) {
	g := flight.NewGroup[int](time.Minute)
	defer g.Close()
	_, err := g.Do(t.Context(), "k", func(context.Context) (int, error) { panic("a strange file") })
	if err == nil || !strings.Contains(err.Error(), "a strange file") {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.NewGroup[int](time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := g.Do(t.Context(), "k", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("what ran got %v", err)
			}
		})
		synctest.Wait()
		g.Close()
		wg.Wait()
		if _, err := g.Do(t.Context(), "k", nil); !errors.Is(err, flight.ErrClosed) {
			t.Errorf("after the close: %v", err)
		}
	})
}
