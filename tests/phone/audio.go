package phone

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// frame is the samples of 20 ms.
const frame = SampleRate / 50

// maxHeard bounds a recording to ten minutes.
const maxHeard = 600 * SampleRate

// Statistics is what a phone knows of the RTP it received and sent.
type Statistics struct {
	Packets, Lost, Duplicates, Late int
	Sent                            int
	// Sources counts the SSRCs that were heard.
	Sources int
	// Strange counts packets from another than the described port.
	Strange int
	// Comfort counts packets whose payload type is neither codec nor event.
	Comfort int
	// Longest is the longest time between two packets.
	Longest time.Duration
	// FirstAt and LastAt are when packets came.
	FirstAt, LastAt time.Time
}

// Audio is the RTP of one call: what the phone says and what it hears.
type Audio struct {
	phone      *Phone
	rtp, rtcp  *net.UDPConn
	ssrc       uint32
	life       context.Context
	end        context.CancelFunc
	closing    sync.Once
	mu         sync.Mutex
	changed    chan struct{}
	started    bool
	remote     netip.AddrPort
	codec      Codec
	event      int // payload type of telephone-event, -1 if none
	theirs     *Description
	source     voice
	bad        *impaired
	digits     []*keypress
	sequence   uint16
	timestamp  uint32
	heard      []int16
	cursor     int
	lastLoud   time.Time
	highest    uint16
	baseTime   uint32
	baseSample int
	sources    map[uint32]bool
	current    uint32
	stats      Statistics
	reports    reports
	keys       []byte // digits heard
	keyTime    uint32
}

// voice is what the phone says while it presses nothing.
type voice struct {
	talking   bool
	frequency float64 // 0 is silence
	position  int
}

// keypress is one digit on its way out.
type keypress struct {
	code    byte
	ticks   int // 20 ms steps the key is down
	sent    int // packets sent
	start   uint32
	begun   chan time.Time
	done    chan struct{}
	spacing int // 20 ms steps of silence behind it
}

func newAudio(p *Phone) (*Audio, error) {
	rtp, rtcp, err := pair(p.host)
	if err != nil {
		return nil, err
	}
	a := &Audio{
		phone: p, rtp: rtp, rtcp: rtcp, ssrc: rand.Uint32(), event: -1, codec: p.cfg.Codecs[0],
		changed: make(chan struct{}), sources: make(map[uint32]bool),
		sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(),
		source: voice{talking: true}, bad: newImpaired(Impairment{}),
	}
	a.life, a.end = context.WithCancel(p.life)
	p.wg.Go(func() { a.listen(rtp, 0, a.receive) })
	p.wg.Go(func() { a.listen(rtcp, 1, a.report) })
	return a, nil
}

// pair binds an even port and the one above it (RFC 3550 §11).
func pair(host netip.Addr) (*net.UDPConn, *net.UDPConn, error) {
	for range 100 {
		first, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil {
			return nil, nil, err
		}
		port := first.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if port%2 == 0 && port < 65535 {
			if second, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, port+1))); err == nil {
				return first, second, nil
			}
		}
		_ = first.Close()
	}
	return nil, nil, errors.New("no free pair of ports")
}

func (a *Audio) local() netip.AddrPort { return a.rtp.LocalAddr().(*net.UDPAddr).AddrPort() }

func (a *Audio) close() {
	a.closing.Do(func() {
		a.end()
		_ = a.rtp.Close()
		_ = a.rtcp.Close()
	})
}

// offered remembers the far end's offer until the call is answered.
func (a *Audio) offered(d *Description) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adopt(d)
}

func (a *Audio) adopt(d *Description) {
	a.theirs, a.remote, a.event = d, d.Address, d.Event
	for _, payload := range d.Payloads {
		i := slices.IndexFunc(a.phone.cfg.Codecs, func(c Codec) bool { return int(c.Payload) == payload })
		if i >= 0 {
			a.codec = a.phone.cfg.Codecs[i]
			return
		}
	}
}

// connect follows the far end's description and starts talking.
func (a *Audio) connect(d *Description) {
	a.offered(d)
	a.begin()
}

func (a *Audio) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.life.Err() != nil {
		return
	}
	a.started = true
	a.phone.wg.Go(a.speak)
}

func (a *Audio) running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

// choose returns the one codec of an answer.
func (a *Audio) choose() []Codec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []Codec{a.codec}
}

func (a *Audio) eventPayload() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.event
}

// reply is the direction that answers the far end's.
func (a *Audio) reply() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.theirs == nil {
		return "sendrecv"
	}
	switch a.theirs.Direction {
	case "sendonly":
		return "recvonly"
	case "recvonly":
		return "sendonly"
	default:
		return a.theirs.Direction
	}
}

// Codec is the codec in use.
func (a *Audio) Codec() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.codec.Name
}

// Remote is where the phone sends its RTP.
func (a *Audio) Remote() netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.remote
}

// Say plays a tone to the far end from now on.
func (a *Audio) Say(frequency float64) { a.speakAs(voice{talking: true, frequency: frequency}) }

// Listen sends silence from now on, as a phone does while its user listens.
func (a *Audio) Listen() { a.speakAs(voice{talking: true}) }

// Mute sends no RTP at all, but for pressed digits.
func (a *Audio) Mute() { a.speakAs(voice{}) }

func (a *Audio) speakAs(v voice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.source = v
}

// Impair spoils all RTP sent from now on.
func (a *Audio) Impair(i Impairment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bad = newImpaired(i)
}

// Press presses the keys one after the other, 100 ms down and 60 ms apart, and
// returns when the first was pressed and once all were sent.
func (a *Audio) Press(ctx context.Context, keys string) (time.Time, error) {
	var pressed []*keypress
	for _, key := range keys {
		code := strings.IndexRune(events, key)
		if code < 0 {
			return time.Time{}, fmt.Errorf("no key %q", key)
		}
		pressed = append(pressed, &keypress{
			code: byte(code), ticks: 5, spacing: 3, begun: make(chan time.Time, 1), done: make(chan struct{}),
		})
	}
	if len(pressed) == 0 {
		return time.Time{}, errors.New("no keys")
	}
	a.mu.Lock()
	event := a.event
	a.digits = append(a.digits, pressed...)
	a.mu.Unlock()
	if event < 0 {
		return time.Time{}, errors.New("the far end takes no telephone-event")
	}
	last := pressed[len(pressed)-1]
	select {
	case <-last.done:
		return <-pressed[0].begun, nil
	case <-a.life.Done():
		if len(last.begun) == 0 {
			return time.Time{}, errors.New("call is over")
		}
		return <-pressed[0].begun, nil // the far end acted on the last key while it was down
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("keys not sent: %w", ctx.Err())
	}
}

// speak sends one packet each 20 ms, and a report each second.
func (a *Audio) speak() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	begin := time.Now()
	for ticks := 0; ; {
		select {
		case <-a.life.Done():
			return
		case <-ticker.C:
		}
		// A late wake-up is made good, as a phone's sound clock would.
		for due := int(time.Since(begin) / (20 * time.Millisecond)); ticks < due; ticks++ {
			a.tick(ticks%50 == 49)
		}
	}
}

func (a *Audio) tick(withReport bool) {
	a.mu.Lock()
	packets := a.next()
	var wire [][]byte
	for _, p := range packets {
		wire = append(wire, a.bad.pass(p.bytes())...)
	}
	remote := a.remote
	var rtcp []byte
	if withReport {
		rtcp = a.compound(time.Now())
	}
	a.mu.Unlock()
	for _, b := range wire {
		_, _ = a.rtp.WriteToUDPAddrPort(b, remote) // a lost datagram is part of life
	}
	if rtcp != nil {
		_, _ = a.rtcp.WriteToUDPAddrPort(rtcp, netip.AddrPortFrom(remote.Addr(), remote.Port()+1))
	}
}

// next returns what is due in this tick: an event packet while a key is down,
// else a frame of audio.
func (a *Audio) next() []rtpPacket {
	defer func() { a.timestamp += frame }()
	if len(a.digits) > 0 {
		return a.key(a.digits[0])
	}
	if !a.source.talking {
		return nil
	}
	data := make([]byte, frame)
	for i := range data {
		var sample int16
		if a.source.frequency != 0 {
			sample = toneSample(a.source.frequency, a.source.position)
		}
		data[i] = a.codec.encode(sample)
		a.source.position++
	}
	return []rtpPacket{a.packet(a.codec.Payload, a.timestamp, data, false)}
}

func (a *Audio) packet(payload uint8, timestamp uint32, data []byte, marker bool) rtpPacket {
	a.sequence++
	a.stats.Sent++
	return rtpPacket{marker: marker, payload: payload, sequence: a.sequence, timestamp: timestamp, ssrc: a.ssrc, data: data}
}

// key sends one step of RFC 4733 §2.5.1: updates while the key is down, the
// end three times, then a pause.
func (a *Audio) key(k *keypress) []rtpPacket {
	if k.sent == 0 {
		k.start = a.timestamp
		k.begun <- time.Now()
	}
	k.sent++
	if k.sent > k.ticks {
		if k.spacing--; k.spacing < 0 {
			a.digits = a.digits[1:]
			close(k.done)
		}
		return nil
	}
	data := []byte{k.code, 10, 0, 0}
	binary.BigEndian.PutUint16(data[2:], uint16(k.sent*frame))
	payload := uint8(a.event)
	if k.sent < k.ticks {
		return []rtpPacket{a.packet(payload, k.start, data, k.sent == 1)}
	}
	data[1] |= 0x80
	return []rtpPacket{
		a.packet(payload, k.start, data, false), a.packet(payload, k.start, data, false), a.packet(payload, k.start, data, false),
	}
}

// compound is SR with one report block, and SDES with a CNAME (RFC 3550 §6).
func (a *Audio) compound(now time.Time) []byte {
	b := make([]byte, 28, 80)
	b[0], b[1] = 0x80, 200
	binary.BigEndian.PutUint32(b[4:], a.ssrc)
	binary.BigEndian.PutUint32(b[8:], uint32(now.Unix()+2208988800)) // NTP epoch
	binary.BigEndian.PutUint32(b[12:], uint32(uint64(now.Nanosecond())<<32/1e9))
	binary.BigEndian.PutUint32(b[16:], a.timestamp)
	binary.BigEndian.PutUint32(b[20:], uint32(a.stats.Sent))
	binary.BigEndian.PutUint32(b[24:], uint32(a.stats.Sent*frame))
	if a.stats.Packets > 0 {
		b[0] |= 1
		block := make([]byte, 24)
		binary.BigEndian.PutUint32(block, a.current)
		binary.BigEndian.PutUint32(block[4:], uint32(a.stats.Lost)&0xFFFFFF)
		binary.BigEndian.PutUint32(block[8:], uint32(a.highest))
		if a.reports.lastSR != 0 {
			binary.BigEndian.PutUint32(block[16:], a.reports.lastSR)
			binary.BigEndian.PutUint32(block[20:], uint32(now.Sub(a.reports.lastSRAt)*65536/time.Second))
		}
		b = append(b, block...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	sdes := []byte{0x81, 202, 0, 4, 0, 0, 0, 0, 1, 7, 'p', 'h', 'o', 'n', 'e', '@', 't', 0, 0, 0}
	binary.BigEndian.PutUint32(sdes[4:], a.ssrc)
	return append(b, sdes...)
}

// listen takes what comes from the described port: symmetric RTP. Anything else
// is a stranger, or a call that had this port before. The host may differ on a
// machine with several addresses.
func (a *Audio) listen(conn *net.UDPConn, offset uint16, take func([]byte)) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		a.mu.Lock()
		known := from.Port() == a.remote.Port()+offset
		if !known {
			a.stats.Strange++
		}
		a.mu.Unlock()
		if known {
			take(bytes.Clone(buf[:n]))
		}
	}
}

func (a *Audio) report(b []byte) {
	a.mu.Lock()
	err := a.reports.take(b, a.ssrc, time.Now())
	a.mu.Unlock()
	if err != nil {
		a.phone.violation("RTCP: %v", err)
	}
}
