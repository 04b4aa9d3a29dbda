package mediad_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/kit/registry"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/mediad"
	"github.com/callmesh/callmesh/mediad/internal/rtp"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

func TestPortsRunOutForNewCallsFirst(t *testing.T) {
	in := start(t, func(c *mediad.Config) { c.Ports, c.Reserve, c.Quarantine = freeRange(t, 8), 2, time.Hour })
	p := newPhone(t)
	create := func(session, leg string) error {
		_, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: leg, SessionId: session, Controller: controller, Description: p.describe()})
		return err
	}
	// Other programs may hold some of the ports, so the number is not ours.
	var err error
	for i := 0; i < 8 && err == nil; i++ {
		err = create(fmt.Sprint("s", i), fmt.Sprint("leg", i))
	}
	wantFault(t, err, fault.PortsExhausted, "")
	if free := in.gauge(t, "callmesh_mediad_free_port_pairs"); free != 2 {
		t.Errorf("refused with %v pairs free, want the reserve of 2", free)
	}
	if err := create("s0", "second"); err != nil {
		t.Errorf("a call that is up may use the reserve: %v", err)
	}
	if free := in.gauge(t, "callmesh_mediad_free_port_pairs"); free != 1 {
		t.Errorf("%v pairs free", free)
	}
	if _, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: "leg0"}); err != nil {
		t.Fatal(err)
	}
	if free := in.gauge(t, "callmesh_mediad_free_port_pairs"); free != 1 {
		t.Errorf("%v pairs free with one in quarantine", free)
	}
}

// freeRange finds n pairs of ports that nobody has right now.
func freeRange(t *testing.T, n int) string {
	t.Helper()
	for first := 61000; first > 30000; first -= 2 * n {
		free := true
		for port := first; port < first+2*n && free; port++ {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				free = false
				continue
			}
			_ = conn.Close()
		}
		if free {
			return fmt.Sprintf("%d-%d", first, first+2*n-1)
		}
	}
	t.Fatal("no free range of ports")
	return ""
}

func TestNothingIsLeftAfterManyLegs(t *testing.T) {
	in := start(t, func(c *mediad.Config) { c.Quarantine = time.Millisecond })
	p := newPhone(t)
	events := in.watch(t, controller)
	prompt := in.put(t, tone(440, time.Second))
	events.next()
	files := openFiles(t)
	free := in.gauge(t, "callmesh_mediad_free_port_pairs")
	const legs = 1000
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := range legs / 10 {
				id := fmt.Sprintf("leg-%d-%d", w, i)
				if _, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: id, SessionId: id, Controller: controller, Description: p.describe()}); err != nil {
					t.Error(err)
					return
				}
				in.run(t, id, 0, &mediapb.Step{StepId: "s", Playlist: []string{prompt}})
				if _, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: id}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for range legs {
		if r := events.result(); r.GetReason() != mediapb.StepResult_REASON_INTERRUPTED {
			t.Fatalf("result = %v", r)
		}
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, %d before", now, files)
	}
	until(t, "all pairs free again", func() bool { return in.gauge(t, "callmesh_mediad_free_port_pairs") == free })
	if n := in.gauge(t, "callmesh_mediad_legs"); n != 0 {
		t.Errorf("%v legs left", n)
	}
}

// openFiles counts descriptors where the system shows them.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func TestStopWaitsForLegsAndRefusesNewOnes(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	in.call(t, p, "a")
	stopped := make(chan error, 1)
	go func() { stopped <- in.stop() }()
	for {
		_, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{LegId: "b", SessionId: "s", Controller: controller, Description: p.describe()})
		if err != nil {
			if fault.ReasonOf(err) != fault.Unavailable {
				t.Errorf("err = %v", err)
			}
			break
		}
		if _, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: "b"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.CloseLeg(t.Context(), &mediapb.CloseLegRequest{LegId: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	for range events.stream { // ends, because the watch does
	}
}

func TestLegsThatOutliveTheGracePeriodAreClosed(t *testing.T) {
	in := start(t, nil)
	p := newPhone(t)
	events := in.watch(t, controller)
	in.call(t, p, "a")
	if err := in.stop(); err == nil {
		t.Error("nobody said that a leg was cut off")
	}
	lost := ""
	for e := range events.stream {
		if e.GetLegLost() != nil {
			lost = e.GetLegLost().GetReason()
		}
	}
	if lost == "" {
		t.Error("the controller was not told")
	}
}

func TestAnnouncesAddressAndLoad(t *testing.T) {
	env := environment(t)
	env.Redis = redistest.Mini(t)
	in := startIn(t, env, func(c *mediad.Config) { c.Ports = "20000-29999" })
	in.call(t, newPhone(t), "a")
	instances := registry.New(env.Redis, env.Log, registry.Options{})
	until(t, "the announcement", func() bool {
		list, err := instances.List(t.Context(), mediad.Service)
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == 1 && list[0].Name == env.Instance && list[0].Address != "" && list[0].Load.Capacity == 5000
	})
	if err := in.stop(); err == nil {
		t.Error("a leg was cut off and nobody said so")
	}
	if list, err := instances.List(t.Context(), mediad.Service); err != nil || len(list) != 0 {
		t.Errorf("after the stop: %v, %v", list, err)
	}
}

func TestConfig(t *testing.T) {
	for field, change := range map[string]func(*mediad.Config){
		"media.ports":     func(c *mediad.Config) { c.Ports = "20000" },
		"media.listen":    func(c *mediad.Config) { c.Listen = "localhost" },
		"media.advertise": func(c *mediad.Config) { c.Listen = "0.0.0.0" },
		"media.listen6":   func(c *mediad.Config) { c.Listen6 = "127.0.0.1" },
		"media.engine":    func(c *mediad.Config) { c.Engine = "xdp" },
		"media.shards":    func(c *mediad.Config) { c.Shards = -1 },
	} {
		cfg := mediad.Defaults()
		change(&cfg)
		_, err := mediad.Parts(cfg, environment(t))
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(field)) {
			t.Errorf("%s: err = %v", field, err)
		}
	}
}

func TestAnAddressOfAnotherMachineIsFoundAtStart(t *testing.T) {
	cfg := mediad.Defaults()
	cfg.Listen = "192.0.2.1" // of the documentation, nobody's
	env := environment(t)
	parts, err := mediad.Parts(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	err = run.All(t.Context(), env.Log, time.Second, nil, parts...)
	if err == nil || !strings.Contains(err.Error(), "media.listen") || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("err = %v", err)
	}
}

func TestIPv6(t *testing.T) {
	in := start(t, func(c *mediad.Config) { c.Listen6 = "::1" })
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	at := conn.LocalAddr().(*net.UDPAddr)
	r, err := in.CreateLeg(t.Context(), &mediapb.CreateLegRequest{
		LegId: "a", SessionId: "s", Controller: controller, Ipv6: true,
		Description: &mediapb.Description{RemoteAddress: "::1", RemotePort: uint32(at.Port), Codecs: []*mediapb.Codec{{Name: "PCMU"}}},
	})
	if err != nil || r.GetLocalAddress() != "::1" {
		t.Fatalf("%v, %v", r, err)
	}
	in.run(t, "a", 0, &mediapb.Step{StepId: "s", After: seconds(10)})
	buffer := make([]byte, 1500)
	if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.ReadFromUDPAddrPort(buffer)
	var p rtp.Packet
	if err != nil || rtp.Parse(buffer[:n], &p) != nil || uint32(from.Port()) != r.GetLocalPort() {
		t.Errorf("%d bytes from %v, %v", n, from, err)
	}
}
