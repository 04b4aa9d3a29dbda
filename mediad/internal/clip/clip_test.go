package clip_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
)

func samples(n int, value int16) []byte {
	b := make([]byte, 0, 2*n)
	for range n {
		b = binary.LittleEndian.AppendUint16(b, uint16(value))
	}
	return b
}

func put(t *testing.T, s *clip.Store, raw []byte) string {
	t.Helper()
	id := clip.ID(raw)
	if _, err := s.Put(id, raw); err != nil {
		t.Fatal(err)
	}
	return id
}

func newStore(budget int64) (*clip.Store, *codec.Codec) {
	pcmu := codec.NewPCMU()
	return clip.NewStore(budget, codec.NewRegistry(pcmu, codec.NewPCMA())), pcmu
}

func TestEncodedOnceAndPadded(t *testing.T) {
	s, pcmu := newStore(1 << 20)
	id := put(t, s, samples(250, 1000))
	c, ok := s.Acquire(id)
	if !ok {
		t.Fatal("not found")
	}
	if c.Encoded(pcmu) != nil {
		t.Error("encoded before anyone asked")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { c.Encode(pcmu) })
	}
	wg.Wait()
	data := c.Encoded(pcmu)
	if c.Frames() != 2 || len(data) != 320 {
		t.Fatalf("%d frames, %d bytes", c.Frames(), len(data))
	}
	if data[249] == pcmu.Silence()[0] || data[250] != pcmu.Silence()[0] {
		t.Error("the padding is not where the audio ends")
	}
	if bytes, clips := s.Bytes(); bytes != 500+320 || clips != 1 {
		t.Errorf("%d bytes in %d clips", bytes, clips)
	}
	if c.Length() != 31250*time.Microsecond {
		t.Errorf("length = %v", c.Length())
	}
}

func TestHeldClipsStay(t *testing.T) {
	s, _ := newStore(1000)
	held := put(t, s, samples(200, 1))
	c, _ := s.Acquire(held)
	unused := put(t, s, samples(200, 2))
	newest := put(t, s, samples(200, 3))
	if _, ok := s.Acquire(unused); ok {
		t.Error("the unused clip outlived the budget")
	}
	if again, ok := s.Acquire(held); !ok || again != c {
		t.Error("a held clip was dropped")
	}
	if _, ok := s.Acquire(newest); !ok {
		t.Error("the newest clip is gone")
	}
	raw := samples(200, 4)
	if _, err := s.Put(clip.ID(raw), raw); !errors.Is(err, clip.ErrNoRoom) {
		t.Errorf("err = %v with all clips held", err)
	}
	c.Release()
	c.Release()
	put(t, s, raw)
}

func TestPutChecksTheHash(t *testing.T) {
	s, _ := newStore(1000)
	if _, err := s.Put("00", samples(1, 1)); !errors.Is(err, clip.ErrHash) {
		t.Errorf("err = %v", err)
	}
}
