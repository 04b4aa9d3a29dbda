package rtcp

import "time"

// Quality is what the E-model needs to know of one direction.
type Quality struct {
	// LossFraction from 0 to 1.
	LossFraction float64
	Jitter       time.Duration
	RoundTrip    time.Duration
}

// MOS estimates the listening quality of G.711 by the E-model: ITU-T G.107
// with its default values, where R starts at 93.2. Delay is half the round
// trip, the packet time and a jitter buffer of twice the jitter.
func (q Quality) MOS() float64 {
	const (
		startR = 93.2
		// G.113 appendix I for G.711 with packet loss concealment.
		equipment     = 0
		robustness    = 25.1
		packetTime    = 20.0
		delayKnee     = 177.3
		worst, finest = 1.0, 4.5
	)
	delay := q.RoundTrip.Seconds()*1000/2 + packetTime + 2*q.Jitter.Seconds()*1000
	impairment := 0.024 * delay
	if delay > delayKnee {
		impairment += 0.11 * (delay - delayKnee)
	}
	loss := 100 * q.LossFraction
	r := startR - impairment - (equipment + (95-equipment)*loss/(loss+robustness))
	switch {
	case r <= 0:
		return worst
	case r >= 100:
		return finest
	}
	return max(worst, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
