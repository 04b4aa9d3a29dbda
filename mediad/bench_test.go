//go:build unix

package mediad_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// sinkVariable makes the test binary a process that counts RTP, so that the
// far end's CPU time is not counted as mediad's.
const sinkVariable = "CALLMESH_BENCH_SINK"

// window is what the sink is to do: count for so long, and send each packet
// back if it plays talking callers.
type window struct {
	Length time.Duration
	Echo   bool
}

// counted is what the sink says about a window.
type counted struct {
	Streams map[uint32]int
	// GapP99 between packets of one stream, in ms.
	GapP99, GapP999 float64
}

// TestSinkProcess is the sink's main function; by itself it does nothing.
func TestSinkProcess(t *testing.T) {
	if os.Getenv(sinkVariable) == "" {
		return
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(8 << 20); err != nil {
		t.Fatal(err)
	}
	fmt.Println(conn.LocalAddr())
	stdin := bufio.NewReader(os.Stdin)
	for {
		line, err := stdin.ReadString('\n')
		if err != nil {
			return
		}
		var order window
		if err := json.Unmarshal([]byte(line), &order); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(count(t, conn, order)); err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, conn *net.UDPConn, w window) counted {
	c := counted{Streams: map[uint32]int{}}
	last := map[uint32]time.Time{}
	var gaps []float64
	buffer := make([]byte, 1500)
	end := time.Now().Add(w.Length)
	if err := conn.SetReadDeadline(end); err != nil {
		t.Fatal(err)
	}
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		now := time.Now()
		if err != nil || now.After(end) {
			break
		}
		var p rtp.Packet
		if rtp.IsRTCP(buffer[:n]) || rtp.Parse(buffer[:n], &p) != nil {
			continue
		}
		if w.Echo {
			if _, err := conn.WriteToUDPAddrPort(buffer[:n], from); err != nil {
				t.Fatal(err)
			}
		}
		c.Streams[p.SSRC]++
		if before, ok := last[p.SSRC]; ok {
			gaps = append(gaps, now.Sub(before).Seconds()*1000)
		}
		last[p.SSRC] = now
	}
	if slices.Sort(gaps); len(gaps) > 0 {
		c.GapP99, c.GapP999 = gaps[len(gaps)*99/100], gaps[len(gaps)*999/1000]
	}
	return c
}

type sink struct {
	addr  netip.AddrPort
	in    *json.Decoder
	start func(window)
}

func newSink(b *testing.B) *sink {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSinkProcess$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), sinkVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close() // ends the sink
		_ = cmd.Wait()    // its exit says nothing about the measurement
	})
	reader := bufio.NewReader(stdout)
	line, err := reader.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &sink{addr: netip.MustParseAddrPort(line[:len(line)-1]), in: json.NewDecoder(reader), start: func(w window) {
		if err := json.NewEncoder(stdin).Encode(w); err != nil {
			b.Fatal(err)
		}
	}}
}

// cpu is the time this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkConcurrentPrompts plays N prompts over loopback UDP at once and
// reports what a packet costs this process, how many streams kept their rate
// (98 % of 50 packets a second), and how even they were. Run with -benchtime 1x.
func BenchmarkConcurrentPrompts(b *testing.B) {
	for _, n := range []int{200, 500, 1500, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { concurrentPrompts(b, n, false) })
	}
}

// BenchmarkTalkingCallers is the same with callers that send as much as they
// hear; packets of both directions count.
func BenchmarkTalkingCallers(b *testing.B) {
	for _, n := range []int{500, 1500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { concurrentPrompts(b, n, true) })
	}
}

func concurrentPrompts(b *testing.B, n int, talking bool) {
	const length = 4 * time.Second
	s := newSink(b)
	in := start(b, func(c *mediad.Config) { c.Shards = 1 })
	prompt := in.put(b, tone(440, 60*time.Second))
	before := heap()
	in.dial(b, s, n, prompt)
	perLeg := float64(heap()-before) / float64(n)
	for b.Loop() {
		before := cpu(b)
		s.start(window{Length: length, Echo: talking})
		var c counted
		if err := s.in.Decode(&c); err != nil {
			b.Fatal(err)
		}
		used := cpu(b) - before
		packets, full := 0, 0
		for _, k := range c.Streams {
			packets += k
			if float64(k) >= 0.98*50*length.Seconds() {
				full++
			}
		}
		if talking {
			packets *= 2
		}
		b.ReportMetric(float64(used.Microseconds())/float64(packets), "µs/packet")
		b.ReportMetric(100*used.Seconds()/length.Seconds(), "%core")
		b.ReportMetric(float64(full), "full-rate")
		b.ReportMetric(c.GapP99, "gap-p99-ms")
		b.ReportMetric(c.GapP999, "gap-p99.9-ms")
		b.ReportMetric(perLeg/1000, "kB/leg")
		b.ReportMetric(0, "ns/op")
	}
	b.StopTimer()
	for i := range n {
		if _, err := in.CloseLeg(b.Context(), &mediapb.CloseLegRequest{LegId: fmt.Sprint("leg", i)}); err != nil {
			b.Fatal(err)
		}
	}
}

// dial makes n legs that play the prompt to the sink.
func (in *instance) dial(b *testing.B, s *sink, n int, prompt string) {
	describe := &mediapb.Description{
		RemoteAddress: s.addr.Addr().String(), RemotePort: uint32(s.addr.Port()),
		Codecs: []*mediapb.Codec{{Name: "PCMU", ClockRate: 8000}},
	}
	for i := range n {
		id := fmt.Sprint("leg", i)
		if _, err := in.CreateLeg(b.Context(), &mediapb.CreateLegRequest{
			LegId: id, SessionId: id, Controller: controller, Description: describe,
		}); err != nil {
			b.Fatal(err)
		}
		in.run(b, id, 0, &mediapb.Step{StepId: "s", Playlist: []string{prompt}})
	}
}

// heap in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
