package leg_test

import (
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
)

func BenchmarkReceive(b *testing.B) {
	r := newRig(b, nil)
	data := make([]byte, 172)
	data[0] = 0x80
	d := packet.Datagram{Addr: sdp, Data: data}
	var seq uint16
	b.ReportAllocs()
	for b.Loop() {
		seq++
		data[2], data[3] = byte(seq>>8), byte(seq)
		r.leg.Receive(time.Duration(seq)*leg.Tick, &d)
	}
	if got := r.leg.Statistics().PacketsReceived; got < uint64(b.N) {
		b.Fatalf("%d packets of %d were accepted", got, b.N)
	}
}

func BenchmarkPlay(b *testing.B) {
	r := newRig(b, nil)
	r.leg.Run(0, leg.Step{ID: "s", Background: r.clip(1000, 1000), Playlist: []*clip.Clip{r.clip(500, 1000)}, After: time.Hour})
	b.ReportAllocs()
	for b.Loop() {
		r.now += leg.Tick
		r.out.Reset()
		r.leg.Tick(r.now, r.out)
	}
}
