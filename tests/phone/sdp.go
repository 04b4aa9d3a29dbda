package phone

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Description is what the phone needs of an SDP with one audio stream.
type Description struct {
	Origin    string // o= line
	Address   netip.AddrPort
	Payloads  []int
	Direction string // sendrecv, sendonly, recvonly, inactive
	// Event is the payload type of telephone-event; -1 if not offered.
	Event int
	// Streams counts the m= lines, also the rejected ones.
	Streams int
}

// ParseDescription reads an SDP and checks the order and presence of what
// RFC 8866 §5 demands.
func ParseDescription(body []byte) (*Description, error) {
	d := &Description{Direction: "sendrecv", Event: -1}
	text := string(body)
	if !strings.HasSuffix(text, "\r\n") {
		return nil, fmt.Errorf("sdp does not end with CRLF")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	if len(lines) < 4 || lines[0] != "v=0" || !strings.HasPrefix(lines[1], "o=") || !strings.HasPrefix(lines[2], "s=") {
		return nil, fmt.Errorf("sdp does not begin with v=0, o=, s=")
	}
	d.Origin = lines[1]
	var host string
	inAudio := false
	for _, line := range lines {
		kind, value, ok := strings.Cut(line, "=")
		if !ok || len(kind) != 1 {
			return nil, fmt.Errorf("sdp line %q", line)
		}
		switch {
		case kind == "c" && (d.Streams == 0 || inAudio):
			fields := strings.Fields(value)
			if len(fields) != 3 {
				return nil, fmt.Errorf("sdp line %q", line)
			}
			host = fields[2]
		case kind == "m":
			d.Streams++
			fields := strings.Fields(value)
			inAudio = len(fields) > 3 && fields[0] == "audio" && fields[1] != "0" && d.Payloads == nil
			if !inAudio {
				continue
			}
			if err := d.audio(fields); err != nil {
				return nil, err
			}
		case kind == "a" && (d.Streams == 0 || inAudio):
			d.attribute(value)
		}
	}
	if d.Payloads != nil {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, fmt.Errorf("sdp c=: %w", err)
		}
		d.Address = netip.AddrPortFrom(ip, d.Address.Port())
	}
	return d, nil
}

func (d *Description) audio(fields []string) error {
	port, err := strconv.ParseUint(fields[1], 10, 16)
	if err != nil {
		return fmt.Errorf("sdp audio port: %w", err)
	}
	d.Address = netip.AddrPortFrom(netip.Addr{}, uint16(port))
	for _, f := range fields[3:] {
		payload, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("sdp payload type: %w", err)
		}
		d.Payloads = append(d.Payloads, payload)
	}
	return nil
}

func (d *Description) attribute(value string) {
	if slices.Contains([]string{"sendrecv", "sendonly", "recvonly", "inactive"}, value) {
		d.Direction = value
	}
	if rest, ok := strings.CutPrefix(value, "rtpmap:"); ok {
		payload, name, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(strings.ToLower(name), "telephone-event/8000") {
			d.Event, _ = strconv.Atoi(payload)
		}
	}
}

// EventPayload is the payload type that the phone offers for telephone-event.
const EventPayload = 101

// describe writes the phone's own description of a call.
func describe(local netip.AddrPort, codecs []Codec, event int, direction string, session, version uint64) []byte {
	var b strings.Builder
	family := "IP4"
	if local.Addr().Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "v=0\r\no=phone %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		session, version, family, local.Addr(), family, local.Addr())
	fmt.Fprintf(&b, "m=audio %d RTP/AVP", local.Port())
	for _, c := range codecs {
		fmt.Fprintf(&b, " %d", c.Payload)
	}
	if event >= 0 {
		fmt.Fprintf(&b, " %d", event)
	}
	b.WriteString("\r\n")
	for _, c := range codecs {
		fmt.Fprintf(&b, "a=rtpmap:%d %s/8000\r\n", c.Payload, c.Name)
	}
	if event >= 0 {
		fmt.Fprintf(&b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-16\r\n", event, event)
	}
	fmt.Fprintf(&b, "a=ptime:20\r\na=%s\r\n", direction)
	return []byte(b.String())
}
