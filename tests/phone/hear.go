package phone

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// receive takes one RTP packet.
func (a *Audio) receive(b []byte) {
	p, err := parseRTP(b)
	if err != nil {
		a.phone.violation("RTP: %v", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	fresh := a.count(p, now)
	switch {
	case int(p.payload) == a.event:
		a.hearKey(p)
	case p.payload == PCMU.Payload && fresh:
		a.hearFrame(p, PCMU, now)
	case p.payload == PCMA.Payload && fresh:
		a.hearFrame(p, PCMA, now)
	case fresh:
		a.stats.Comfort++
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// count keeps the statistics and tells whether the packet is new.
func (a *Audio) count(p rtpPacket, now time.Time) bool {
	s := &a.stats
	if !a.sources[p.ssrc] {
		a.sources[p.ssrc] = true
		s.Sources++
	}
	first := s.Packets == 0
	s.Packets++
	if first {
		s.FirstAt = now
	} else if gap := now.Sub(s.LastAt); gap > s.Longest {
		s.Longest = gap
	}
	s.LastAt = now
	if first || p.ssrc != a.current {
		a.current, a.highest = p.ssrc, p.sequence
		a.baseTime, a.baseSample = p.timestamp, len(a.heard)
		return true
	}
	switch step := int16(p.sequence - a.highest); {
	case step == 0:
		s.Duplicates++
		return false
	case step < 0:
		s.Late++
		s.Lost = max(s.Lost-1, 0)
		return true
	default:
		s.Lost += int(step) - 1
		a.highest = p.sequence
		return true
	}
}

// hearFrame puts a frame where its timestamp says, so that gaps are silence.
func (a *Audio) hearFrame(p rtpPacket, codec Codec, now time.Time) {
	at := a.baseSample + int(int32(p.timestamp-a.baseTime))
	// A jump of more than a minute is a new stream that kept its SSRC.
	if at < a.baseSample || at > len(a.heard)+60*SampleRate {
		a.baseTime, a.baseSample = p.timestamp, len(a.heard)
		at = len(a.heard)
	}
	if at+len(p.data) > maxHeard {
		return
	}
	for len(a.heard) < at+len(p.data) {
		a.heard = append(a.heard, 0)
	}
	for i, b := range p.data {
		a.heard[at+i] = codec.decode(b)
	}
	if rms(a.heard[at:at+len(p.data)]) >= quietRMS {
		a.lastLoud = now
	}
}

// hearKey notes each event once; its timestamp is its name (RFC 4733 §2.2).
func (a *Audio) hearKey(p rtpPacket) {
	if len(p.data) < 4 || int(p.data[0]) >= len(events) {
		return
	}
	if len(a.keys) > 0 && p.timestamp == a.keyTime {
		return
	}
	a.keyTime = p.timestamp
	a.keys = append(a.keys, events[p.data[0]])
}

// Keys are the digits heard as telephone-events.
func (a *Audio) Keys() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.keys)
}

// Statistics of the RTP so far.
func (a *Audio) Statistics() Statistics {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Reports counts the RTCP so far.
func (a *Audio) Reports() (sender, receiver int, fractionLost float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reports.SenderReports, a.reports.ReceiverReports, a.reports.FractionLost
}

// LastLoud is when the last packet came that was not silence.
func (a *Audio) LastLoud() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastLoud
}

// Heard returns all samples heard so far.
func (a *Audio) Heard() []int16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int16(nil), a.heard...)
}

// window is what must sound of a tone at the least: 160 ms, eight packets.
const window = 8 * frame

// Hear waits until the frequency sounds for 160 ms after what earlier calls of
// Hear have found, so that successive calls follow a sequence of prompts.
func (a *Audio) Hear(ctx context.Context, frequency float64) error {
	for {
		over := a.life.Err() != nil
		a.mu.Lock()
		found := a.find(frequency)
		changed := a.changed
		a.mu.Unlock()
		if found {
			return nil
		}
		if over {
			return fmt.Errorf("call ended before %.0f Hz; heard: %s", frequency, a.Summary())
		}
		select {
		case <-changed:
		case <-a.life.Done(): // once more: the last packet may have come with the end
		case <-ctx.Done():
			return fmt.Errorf("no %.0f Hz: %w; heard: %s", frequency, ctx.Err(), a.Summary())
		}
	}
}

func (a *Audio) find(frequency float64) bool {
	for ; a.cursor+window <= len(a.heard); a.cursor += frame {
		half := a.cursor + window/2
		if IsTone(a.heard[a.cursor:half], frequency) && IsTone(a.heard[half:a.cursor+window], frequency) {
			a.cursor += window
			return true
		}
	}
	return false
}

// Silent waits until nothing but silence came for the time.
func (a *Audio) Silent(ctx context.Context, length time.Duration) error {
	from := time.Now()
	for {
		a.mu.Lock()
		since := from
		if a.lastLoud.After(since) {
			since = a.lastLoud
		}
		a.mu.Unlock()
		left := length - time.Since(since)
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("not silent for %v: %w", length, ctx.Err())
		}
	}
}

// Summary tells in words what was heard: runs of the strongest frequency.
func (a *Audio) Summary() string {
	samples := a.Heard()
	var runs []string
	last, count := "", 0
	flush := func() {
		if count > 0 {
			runs = append(runs, fmt.Sprintf("%s %.1fs", last, float64(count)/10))
		}
	}
	const step = SampleRate / 10
	for ; len(samples) >= step; samples = samples[step:] {
		label := dominant(samples[:step])
		if label != last {
			flush()
			last, count = label, 0
		}
		count++
	}
	flush()
	if len(runs) == 0 {
		return "nothing"
	}
	if len(runs) > 30 {
		runs = append(runs[:30], "…")
	}
	return strings.Join(runs, ", ")
}

// dominant names the strongest frequency of a window, in steps of 10 Hz.
func dominant(samples []int16) string {
	if rms(samples) < quietRMS {
		return "silence"
	}
	best, share := 0.0, 0.0
	for f := 100.0; f < 3500; f += 10 {
		if s := Share(samples, f); s > share {
			best, share = f, s
		}
	}
	if share < 0.4 {
		return "noise"
	}
	return fmt.Sprintf("%.0f Hz", best)
}
