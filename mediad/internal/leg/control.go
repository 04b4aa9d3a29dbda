package leg

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/packet"
	"github.com/callmesh/callmesh/mediad/internal/rtcp"
)

// interval between reports, the minimum of RFC 3550 §6.2.
const interval = 5 * time.Second

// start draws the CNAME (RFC 7022: random, per session) and the first report,
// which comes after half the interval (§6.2).
func (c *control) start(now time.Duration, random *rand.Rand) {
	var id [8]byte
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	c.cname = hex.EncodeToString(id[:])
	c.schedule(now, interval/2, random)
}

// schedule draws the next report from 0.5 to 1.5 of the interval (§6.3.1).
func (c *control) schedule(now, interval time.Duration, random *rand.Rand) {
	c.next = now + interval/2 + time.Duration(random.Int64N(int64(interval)))
}

// report sends RTCP: a sender report if we have sent since the last one.
func (l *Leg) report(now time.Duration, out *packet.Batch, bye bool) {
	c := &l.control
	c.schedule(now, interval, l.Random)
	to := l.controlDestination()
	if !to.IsValid() {
		return
	}
	compound := rtcp.Compound{SSRC: l.ssrc, CNAME: c.cname, Bye: bye}
	if l.sent != c.reported {
		c.reported = l.sent
		compound.HasSender = true
		compound.Sender = rtcp.Sender{
			NTP: rtcp.NTP(l.Epoch.Add(now)), Timestamp: l.timestamp,
			Packets: uint32(l.sent), Octets: uint32(l.octets),
		}
	}
	compound.Report, compound.HasReport = l.receiving.reception.Report(l.source.ssrc, now)
	d := out.Next(l.Flow, !l.description.Mux, to)
	if d == nil {
		l.Counters.Dropped[DropOverflow]++
		return
	}
	d.Data = compound.Append(d.Data)
}

// controlDestination follows the RTP lock: where RTCP came from, or the RTP
// port's neighbour at the address that media comes from.
func (l *Leg) controlDestination() netip.AddrPort {
	d := &l.description
	switch {
	case d.Mux:
		return l.source.destination(d)
	case l.control.address.IsValid():
		return l.control.address
	case l.source.locked && l.source.addr.Addr() != d.Remote.Addr():
		return netip.AddrPortFrom(l.source.addr.Addr(), l.source.addr.Port()+1)
	}
	return d.RemoteRTCP
}

// receiveControl takes a compound packet. It must come from the host that
// media comes from, or is announced to come from.
func (l *Leg) receiveControl(now time.Duration, d *packet.Datagram) {
	if d.Addr.Addr() != l.source.destination(&l.description).Addr() {
		l.receiving.foreign++
		l.Counters.Dropped[DropForeign]++
		return
	}
	var compound rtcp.Compound
	if rtcp.Parse(d.Data, l.ssrc, &compound) != nil {
		l.Counters.Dropped[DropRTCP]++
		return
	}
	l.hear()
	c := &l.control
	if d.RTCP && l.source.locked {
		c.address = d.Addr
	}
	if compound.HasSender && compound.SSRC == l.source.ssrc {
		l.receiving.reception.SenderReport(compound.Sender.NTP, now)
	}
	if compound.HasReport {
		c.remote, c.known = compound.Report, true
		if rtt, ok := compound.Report.RoundTrip(rtcp.NTP(l.Epoch.Add(now))); ok {
			c.roundTrip = rtt
		}
	}
}

// Statistics of a leg, zero where nothing was measured.
type Statistics struct {
	PacketsReceived, PacketsLost, PacketsSent uint64
	OctetsReceived, OctetsSent                uint64
	PacketsForeign                            uint64
	Jitter, RoundTrip                         time.Duration
	MOS                                       float64
	RemoteLost                                uint64
	RemoteJitter                              time.Duration
	Codec                                     string
}

// Statistics as of now.
func (l *Leg) Statistics() Statistics {
	r := &l.receiving
	s := Statistics{
		PacketsReceived: r.reception.Received(),
		PacketsLost:     r.reception.Lost(),
		PacketsSent:     l.sent,
		OctetsReceived:  r.octets,
		OctetsSent:      l.octets,
		PacketsForeign:  r.foreign,
		Jitter:          time.Duration(r.reception.Jitter()) * unit,
		RoundTrip:       l.control.roundTrip,
		Codec:           l.description.Codecs[0].Codec.Name,
	}
	if l.control.known {
		s.RemoteLost = uint64(max(0, l.control.remote.CumulativeLost))
		s.RemoteJitter = time.Duration(l.control.remote.Jitter) * unit
	}
	if total := s.PacketsReceived + s.PacketsLost; total > 0 {
		s.MOS = rtcp.Quality{
			LossFraction: float64(s.PacketsLost) / float64(total), Jitter: s.Jitter, RoundTrip: s.RoundTrip,
		}.MOS()
	}
	return s
}
