package leg_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
)

// bounded is a leg that sends, and to where nobody answers for a second at most.
func bounded(t *testing.T, direction leg.Direction) *rig {
	r := newRig(t, func(c *leg.Config, d *leg.Description) { c.Unlatched, d.Direction = time.Second, direction })
	r.wait("a")
	return r
}

// packets counts what n ticks send.
func (r *rig) packets(n int) (sent int) {
	for range n {
		if _, ok := r.tick(); ok {
			sent++
		}
	}
	return sent
}

func TestNobodyIsSentToForLongWithoutAnAnswer(t *testing.T) {
	for name, direction := range map[string]leg.Direction{"both ways": leg.SendRecv, "one way": leg.SendOnly} {
		for heard, hear := range map[string]func(*rig){
			"RTP":  func(r *rig) { r.audio() },
			"RTCP": func(r *rig) { r.reportFrom(sdp.Addr()) },
		} {
			t.Run(name+" "+heard, func(t *testing.T) {
				r := bounded(t, direction)
				if n := r.packets(200); n != 50 {
					t.Errorf("%d packets to a stranger, want 50", n)
				}
				if r.counters.Silenced != 1 {
					t.Errorf("%d legs counted", r.counters.Silenced)
				}
				if direction == leg.SendOnly { // else it may be anybody behind a NAT
					r.from = another
					r.audio()
					r.reportFrom(another.Addr())
					if n := r.packets(10); n != 0 {
						t.Errorf("%d packets after a word from elsewhere", n)
					}
					r.from = sdp
				}
				hear(r)
				s := mustSend(t, r)
				if !s.Marker {
					t.Error("no marker after the gap")
				}
				if n := r.packets(200); n != 200 {
					t.Errorf("%d packets of 200 to one who was heard", n)
				}
			})
		}
	}
}

func TestAnotherAddressIsBoundedAnew(t *testing.T) {
	r := bounded(t, leg.SendRecv)
	r.audio()
	r.packets(100)
	d := r.description()
	d.Remote = another
	r.leg.Describe(r.now, d)
	if n := r.packets(200); n != 50 {
		t.Errorf("%d packets to the new address, want 50", n)
	}
	for _, remote := range []netip.AddrPort{sdp, another, behind} { // no way to earn more
		d.Remote = remote
		r.leg.Describe(r.now, d)
		if n := r.packets(10); n != 0 {
			t.Errorf("%d packets to %v", n, remote)
		}
	}
}

func TestHoldDoesNotCountAsSilence(t *testing.T) {
	r := bounded(t, leg.SendRecv)
	r.packets(10)
	d := r.description()
	d.Direction = leg.Inactive
	r.leg.Describe(r.now, d)
	r.packets(200)
	d.Direction = leg.SendRecv
	r.leg.Describe(r.now, d)
	if n := r.packets(200); n != 40 {
		t.Errorf("%d packets after the hold, want the 40 that were left", n)
	}
}

// reportFrom receives an RTCP report of a host.
func (r *rig) reportFrom(host netip.Addr) {
	c := rtcp.Compound{SSRC: r.ssrc, CNAME: "far"}
	r.leg.Receive(r.now, &packet.Datagram{RTCP: true, Addr: netip.AddrPortFrom(host, sdp.Port()+1), Data: c.Append(nil)})
}
