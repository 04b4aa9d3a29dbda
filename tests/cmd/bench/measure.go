package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockedBuffer takes a child's output while it is looked at.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// usage is what a process has used so far.
type usage struct {
	cpu time.Duration
	rss int64
}

// used reads /proc: CPU in ticks of 10 ms, memory in pages.
func used(pid int) (usage, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return usage{}, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	pages, err3 := strconv.ParseInt(f[21], 10, 64)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return usage{}, err
		}
	}
	return usage{time.Duration(user+system) * 10 * time.Millisecond, pages * int64(os.Getpagesize())}, nil
}

// receiver counts the RTP of all calls, by the port that it comes from, and the
// gaps between the packets of each.
type receiver struct {
	conn *net.UDPConn
	done chan struct{}

	mu      sync.Mutex
	packets int
	streams map[netip.AddrPort]*stream
	gaps    []float32 // ms
}

type stream struct {
	packets int
	last    time.Time
}

func listen() (*receiver, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(8 << 20); err != nil {
		return nil, err
	}
	r := &receiver{conn: conn, done: make(chan struct{}), streams: map[netip.AddrPort]*stream{}}
	go r.run()
	return r, nil
}

func (r *receiver) run() {
	defer close(r.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n < 12 || buf[1]&0x7f != 0 { // RTCP, by its type, and whatever else
			continue
		}
		now := time.Now()
		r.mu.Lock()
		r.packets++
		s := r.streams[from]
		if s == nil {
			s = &stream{}
			r.streams[from] = s
		} else if len(r.gaps) < 4_000_000 {
			r.gaps = append(r.gaps, float32(now.Sub(s.last).Seconds()*1000))
		}
		s.last, s.packets = now, s.packets+1
		r.mu.Unlock()
	}
}

func (r *receiver) port() int { return r.conn.LocalAddr().(*net.UDPAddr).Port }

func (r *receiver) close() {
	_ = r.conn.Close()
	<-r.done
}

// reset forgets what was counted.
func (r *receiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packets, r.gaps, r.streams = 0, nil, map[netip.AddrPort]*stream{}
}

type heard struct {
	packets, streams int
	// atRate counts streams with at least 98 % of the packets wanted.
	atRate   int
	p99, max float64
}

func (r *receiver) heard(want int) heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := heard{packets: r.packets, streams: len(r.streams)}
	for _, s := range r.streams {
		if s.packets*100 >= want*98 {
			h.atRate++
		}
	}
	h.p99, h.max = quantile(r.gaps, 0.99), quantile(r.gaps, 1)
	return h
}

func quantile(v []float32, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(v)
	slices.Sort(sorted)
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}

func numbers(list string) ([]int, error) {
	var out []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is no positive number", text)
		}
		out = append(out, n)
	}
	return out, nil
}

// pin keeps this process, and what it starts without another word, on one core.
func pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks { // threads that the runtime has made already
		if id, err := strconv.Atoi(t.Name()); err == nil {
			if err := unix.SchedSetaffinity(id, &set); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
