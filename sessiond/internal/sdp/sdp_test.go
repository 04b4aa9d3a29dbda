package sdp

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func parse(t testing.TB, text string) *Description {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// seeds are descriptions as devices send them, each odd in its own way.
var seeds = map[string]string{
	"usual":           "v=0\r\no=alice 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
	"line feeds only": "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
	"no s= and t=":    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n",
	"fax":             "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=fax\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=image 4002 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n",
	"IPv6":            "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
	"hold by zeros":   "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
	"early attribute": "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\na=sendonly\r\nb=XX:64\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nb=TIAS:64000\r\nc=IN IP4 192.0.2.2/127\r\n",
	"odd origin":      "v=0\r\no=Cisco SIP GW 123456789012345678901234567890 1 IN IP4 192.0.2.1\r\ns= \r\nt=0 0\r\nm=audio 4000/2 RTP/AVP 0\r\n",
	"no end":          "v=0\r\nm=audio 4000 RTP/AVP 0",
	"zero byte":       "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n\x00",
	"rubbish within":  "v=0\r\nhello\r\ns=-\r\n\r\nm=audio 4000 RTP/AVP 0\r\n\r\n",
}

func TestOddDescriptionsParse(t *testing.T) {
	for name, text := range seeds {
		t.Run(name, func(t *testing.T) { parse(t, text) })
	}
}

func TestMeaning(t *testing.T) {
	d := parse(t, seeds["early attribute"])
	m := &d.Media[0]
	if got := d.Direction(m); got != SendOnly {
		t.Errorf("direction %v, want the session's sendonly", got)
	}
	if addr, _, ok := d.Connection(m); !ok || addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("connection %v %v, want the section's own", addr, ok)
	}
	d = parse(t, seeds["odd origin"])
	want := Origin{User: "Cisco SIP GW", ID: "123456789012345678901234567890", Version: "1", Address: "192.0.2.1"}
	if got, ok := d.Origin(); !ok || got != want {
		t.Errorf("origin %+v, want %+v", got, want)
	}
	if d.Media[0].Ports != 2 {
		t.Errorf("ports %d", d.Media[0].Ports)
	}
	d = parse(t, seeds["fax"])
	if m := d.Media[0]; m.Kind != "image" || m.Proto != "udptl" || !cmp.Equal(m.Formats, []string{"t38"}) || len(m.RTPFormats()) != 0 {
		t.Errorf("fax: %+v", m)
	}
	d = parse(t, "v=0\r\nm=audio 9 RTP/AVP 0 96 97 98 200 x\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:97 nonsense\r\na=rtpmap:0 PCMU/8000/1\r\n")
	if diff := cmp.Diff(d.Media[0].RTPFormats(), []Format{{PT: 0, Name: "PCMU", Rate: 8000, Channels: 1},
		{PT: 96, Name: "opus", Rate: 48000, Channels: 2, Fmtp: "useinbandfec=1"}}); diff != "" {
		t.Error(diff)
	}
	d = parse(t, "v=0\r\nc=IN IP4 phone.example.com\r\nm=audio 9 RTP/AVP 0\r\n")
	if addr, host, ok := d.Connection(&d.Media[0]); addr.IsValid() || host != "phone.example.com" || !ok {
		t.Errorf("host name: %v %q %v", addr, host, ok)
	}
}

func TestUnknownLinesKeepTheirPlace(t *testing.T) {
	text := "v=0\r\nz=whatever\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\na=x-odd\r\nq=9\r\na=ptime:20\r\n"
	if got := string(parse(t, text).Bytes()); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
}

func TestNoDescription(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "blank": "\r\n\r\n", "no version": "o=- 1 1 IN IP4 1.1.1.1\r\n", "digit": "Signal=5\r\n",
		"short m": "v=0\r\nm=audio 4000\r\n", "port": "v=0\r\nm=audio 70000 RTP/AVP 0\r\n", "ports": "v=0\r\nm=audio 1/0 RTP/AVP 0\r\n",
		"many lines": "v=0\r\n" + strings.Repeat("a=x\r\n", maxLines), "many media": "v=0\r\n" + strings.Repeat("m=audio 1 RTP/AVP 0\r\n", maxMedia+1),
		"many formats": "v=0\r\nm=audio 1 RTP/AVP" + strings.Repeat(" 0", maxFormats+1) + "\r\n",
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := Parse(bytes.Repeat([]byte("a"), MaxSize+1)); !errors.Is(err, ErrTooBig) {
		t.Errorf("size: %v", err)
	}
}

func TestDirections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Direction(rapid.IntRange(0, 3).Draw(t, "a"))
		b := Direction(rapid.IntRange(0, 3).Draw(t, "b"))
		switch {
		case a.Reverse().Reverse() != a:
			t.Fatal("reversing twice is not the same")
		case a.And(b) != b.And(a):
			t.Fatal("And depends on the order")
		case a.And(SendRecv) != a || a.And(Inactive) != Inactive || a.And(a) != a:
			t.Fatal("And is no intersection")
		case a.And(b).Reverse() != a.Reverse().And(b.Reverse()):
			t.Fatal("the other side sees something else")
		}
	})
}

// FuzzParse: what parses, writes and parses again to the same.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		text := d.Bytes()
		if len(text) > MaxSize { // line ends may have grown
			return
		}
		e, err := Parse(text)
		if err != nil {
			t.Fatalf("%q does not parse: %v", text, err)
		}
		if again := e.Bytes(); !bytes.Equal(again, text) {
			t.Fatalf("%q became %q", text, again)
		}
		d.Origin()
		for i := range d.Media {
			d.Connection(&d.Media[i])
			d.Direction(&d.Media[i])
			d.Media[i].RTPFormats()
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte(seeds["usual"])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
