package rtcp

import "time"

// Limits of RFC 3550 A.1.
const (
	maxDropout  = 3000
	maxMisorder = 100
)

// Reception counts what arrives of one source (RFC 3550 A.1, A.3, A.8). The
// zero value waits for the first packet.
type Reception struct {
	started        bool
	baseSequence   uint16
	maxSequence    uint16
	badSequence    uint32
	cycles         uint32
	received       uint32
	expectedPrior  uint32
	receivedPrior  uint32
	carriedLost    int64
	carried        uint64
	timed          bool
	transit        int32
	jitter16       uint32
	lastSR         uint32
	lastSRReceived time.Duration
}

// Restart begins to count a new source (a changed SSRC) and keeps the totals.
func (r *Reception) Restart() {
	*r = Reception{
		carriedLost: r.carriedLost + r.lostHere(),
		carried:     r.carried + uint64(r.received),
		jitter16:    r.jitter16,
	}
}

// Packet counts one packet. arrival is the local time in timestamp units.
// Packets whose timestamp stands still (telephone-event) are not timed. It
// returns false for a sequence number that cannot belong to the stream.
func (r *Reception) Packet(sequence uint16, timestamp, arrival uint32, timed bool) bool {
	if !r.started {
		r.start(sequence)
	} else if !r.follow(sequence) {
		return false
	}
	r.received++
	if !timed {
		return true
	}
	transit := int32(arrival - timestamp)
	if r.timed {
		d := transit - r.transit
		if d < 0 {
			d = -d
		}
		// A.8, jitter scaled by 16 so that integers do.
		r.jitter16 += uint32(d) - (r.jitter16+8)>>4
	}
	r.timed, r.transit = true, transit
	return true
}

func (r *Reception) start(sequence uint16) {
	r.started = true
	r.baseSequence, r.maxSequence = sequence, sequence
	r.badSequence = 1<<16 + 1 // matches nothing
	r.cycles, r.received, r.receivedPrior, r.expectedPrior = 0, 0, 0, 0
}

func (r *Reception) follow(sequence uint16) bool {
	switch delta := sequence - r.maxSequence; {
	case delta < maxDropout:
		if sequence < r.maxSequence {
			r.cycles += 1 << 16
		}
		r.maxSequence = sequence
	case uint32(delta) <= 1<<16-maxMisorder:
		// A jump: two in a row mean that the source restarted.
		if uint32(sequence) != r.badSequence {
			r.badSequence = uint32(sequence+1) & 0xFFFF
			return false
		}
		r.carriedLost += r.lostHere()
		r.carried += uint64(r.received)
		r.start(sequence)
	default:
		// A duplicate or a late packet.
	}
	return true
}

func (r *Reception) highest() uint32  { return r.cycles + uint32(r.maxSequence) }
func (r *Reception) expected() uint32 { return r.highest() - uint32(r.baseSequence) + 1 }

func (r *Reception) lostHere() int64 {
	if !r.started {
		return 0
	}
	return int64(r.expected()) - int64(r.received)
}

// Received is the number of packets over all sources so far.
func (r *Reception) Received() uint64 { return r.carried + uint64(r.received) }

// Lost is never negative, though duplicates can outnumber losses.
func (r *Reception) Lost() uint64 { return uint64(max(0, r.carriedLost+r.lostHere())) }

// Jitter is the interarrival jitter in timestamp units.
func (r *Reception) Jitter() uint32 { return r.jitter16 >> 4 }

// SenderReport notes an SR for LSR and DLSR.
func (r *Reception) SenderReport(ntp uint64, now time.Duration) {
	r.lastSR, r.lastSRReceived = Middle(ntp), now
}

// Report makes the report block about ssrc and starts the next interval (A.3).
// It is false when nothing has been received.
func (r *Reception) Report(ssrc uint32, now time.Duration) (Report, bool) {
	if !r.started {
		return Report{}, false
	}
	expected := r.expected()
	expectedInterval := expected - r.expectedPrior
	receivedInterval := r.received - r.receivedPrior
	r.expectedPrior, r.receivedPrior = expected, r.received
	var fraction uint8
	if lost := int64(expectedInterval) - int64(receivedInterval); expectedInterval != 0 && lost > 0 {
		fraction = uint8(min(lost<<8/int64(expectedInterval), 255))
	}
	rep := Report{
		SSRC:            ssrc,
		FractionLost:    fraction,
		CumulativeLost:  int32(min(max(r.lostHere(), -maxLostSigned-1), maxLostSigned)),
		HighestSequence: r.highest(),
		Jitter:          r.Jitter(),
		LastSR:          r.lastSR,
	}
	if r.lastSR != 0 {
		rep.DelaySinceLastSR = uint32((now - r.lastSRReceived) * 65536 / time.Second)
	}
	return rep, true
}
