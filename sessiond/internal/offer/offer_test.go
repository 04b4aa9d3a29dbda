package offer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/sessiond/internal/sdp"
)

var here = netip.MustParseAddrPort("198.51.100.7:20000")

const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"

func receive(t testing.TB, offer string) *Agreement {
	t.Helper()
	a, err := Receive([]byte(offer), G711())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheFirstCodecOfTheOfferThatWeKnow(t *testing.T) {
	a := receive(t, head+"m=audio 4000 RTP/AVP 18 8 0 96 101\r\na=rtpmap:96 pcmu/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n")
	if diff := cmp.Diff(a.Codecs, []Codec{{"PCMA", 8, 8000}, {"PCMU", 0, 8000}}); diff != "" {
		t.Error(diff)
	}
	if a.EventPT != 101 || a.Remote != netip.MustParseAddrPort("192.0.2.1:4000") || a.RTCPPort != 4001 || a.Direction != sdp.SendRecv || a.Held {
		t.Errorf("%+v", a)
	}
	want := "v=0\r\no=- 77 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n" +
		"m=audio 20000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
	if got := string(a.Answer(Local{Address: here, SessionID: 77})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPayloadTypesAreTheOffers(t *testing.T) {
	a := receive(t, head+"m=audio 4000 RTP/AVP 100 99\r\na=rtpmap:100 PCMA/8000\r\na=rtpmap:99 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\n")
	if a.Codecs[0].PT != 100 || a.EventPT != 99 {
		t.Errorf("%+v", a)
	}
	if got := string(a.Answer(Local{Address: here})); !strings.Contains(got, "RTP/AVP 100 99\r\n") {
		t.Error(got)
	}
}

func TestWhatWeDoNotTakeIsRefusedInPlace(t *testing.T) {
	a := receive(t, head+"m=video 4000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 0\r\n"+
		"m=audio 4004 RTP/AVP 0\r\nm=audio 4006 RTP/AVP 8\r\nm=image 4008 udptl t38\r\nm=message 4010 TCP/MSRP *\r\n")
	d, err := sdp.Parse(a.Answer(Local{Address: here}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range d.Media {
		got = append(got, fmt.Sprint(m.Kind, m.Port, m.Proto, m.Formats))
	}
	want := []string{"video0RTP/AVP[96]", "audio0RTP/AVP[0]", "audio0RTP/SAVP[0]", "audio20000RTP/AVP[0]", "audio0RTP/AVP[8]", "image0udptl[t38]", "message0TCP/MSRP[*]"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

func TestDirections(t *testing.T) {
	for _, c := range []struct {
		name, offer string
		wish, want  sdp.Direction
		held, addr  bool
	}{
		{"plain", "", sdp.SendRecv, sdp.SendRecv, false, true},
		{"hold", "a=sendonly\r\n", sdp.SendRecv, sdp.RecvOnly, true, true},
		{"inactive", "a=inactive\r\n", sdp.SendRecv, sdp.Inactive, true, true},
		{"they listen", "a=recvonly\r\n", sdp.SendRecv, sdp.SendOnly, false, true},
		{"zeros", "c=IN IP4 0.0.0.0\r\n", sdp.SendRecv, sdp.RecvOnly, true, false},
		{"zeros and inactive", "c=IN IP4 0.0.0.0\r\na=inactive\r\n", sdp.SendRecv, sdp.Inactive, true, false},
		{"IPv6 zeros", "c=IN IP6 ::\r\n", sdp.SendRecv, sdp.RecvOnly, true, false},
		{"we hold", "", sdp.SendOnly, sdp.SendOnly, false, true},
		{"both hold", "a=sendonly\r\n", sdp.SendOnly, sdp.Inactive, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := receive(t, head+"m=audio 4000 RTP/AVP 0\r\n"+c.offer)
			answer := string(a.Answer(Local{Address: here, Direction: c.wish}))
			if a.Direction != c.want || a.Held != c.held || a.Remote.IsValid() != c.addr {
				t.Errorf("%v held %v remote %v", a.Direction, a.Held, a.Remote)
			}
			if !strings.Contains(answer, "a="+c.want.String()+"\r\n") {
				t.Error(answer)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ offer, warning string }{
		"encrypted only":  {head + "m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\r\n", "302 "},
		"no codec":        {head + "m=audio 4000 RTP/AVP 18\r\n", "305 "},
		"events only":     {head + "m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", "305 "},
		"stereo":          {head + "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 PCMU/8000/2\r\n", "305 "},
		"wide":            {head + "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 PCMU/16000\r\n", "305 "},
		"fax only":        {head + "m=image 4000 udptl t38\r\n", "304 "},
		"nothing":         {head, "304 "},
		"all over":        {head + "m=audio 0 RTP/AVP 0\r\n", "304 "},
		"no address":      {"v=0\r\nm=audio 4000 RTP/AVP 0\r\n", "300 "},
		"host name":       {"v=0\r\nc=IN IP4 phone.example.com\r\nm=audio 4000 RTP/AVP 0\r\n", "301 "},
		"multicast group": {"v=0\r\nc=IN IP4 224.2.1.1/127\r\nm=audio 4000 RTP/AVP 0\r\n", "330 "},
		"no SDP":          {"Signal=5", "399 "},
	} {
		_, err := Receive([]byte(c.offer), G711())
		rej, ok := errors.AsType[*Rejection](err)
		if !ok || !strings.HasPrefix(rej.Warning, c.warning) || rej.Code != 488 && rej.Code != 400 {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the key is in the error", name)
		}
	}
}

func TestRTCP(t *testing.T) {
	a := receive(t, head+"m=audio 4000 RTP/AVP 0\r\na=rtcp:53020 IN IP4 192.0.2.9\r\n")
	if a.RTCPPort != 53020 || a.RTCPMux {
		t.Errorf("%+v", a)
	}
	a = receive(t, head+"m=audio 4000 RTP/AVP 0\r\na=rtcp:53020\r\na=rtcp-mux\r\n")
	if a.RTCPPort != 4000 || !a.RTCPMux || !strings.Contains(string(a.Answer(Local{Address: here})), "a=rtcp-mux\r\n") {
		t.Errorf("%+v", a)
	}
}

func TestIPv6(t *testing.T) {
	a := receive(t, "v=0\r\nc=IN IP6 2001:db8::9\r\nm=audio 4000 RTP/AVP 0\r\n")
	if !a.IPv6 || a.Remote != netip.MustParseAddrPort("[2001:db8::9]:4000") {
		t.Errorf("%+v", a)
	}
	if got := string(a.Answer(Local{Address: netip.MustParseAddrPort("[2001:db8::1]:20000")})); !strings.Contains(got, "c=IN IP6 2001:db8::1\r\n") {
		t.Error(got)
	}
}

func version(t testing.TB, text []byte) string {
	t.Helper()
	d, err := sdp.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o, ok := d.Origin()
	if !ok {
		t.Fatalf("no origin in %q", text)
	}
	return o.ID + "/" + o.Version
}

func TestVersionCountsChanges(t *testing.T) {
	plain := head + "m=audio 4000 RTP/AVP 0\r\n"
	first := receive(t, plain).Answer(Local{Address: here, SessionID: 5})
	again := receive(t, plain).Answer(Local{Address: here, Previous: first})
	if string(again) != string(first) {
		t.Errorf("nothing changed, but\n%s\nbecame\n%s", first, again)
	}
	held := receive(t, plain+"a=sendonly\r\n").Answer(Local{Address: here, Previous: again})
	back := receive(t, plain).Answer(Local{Address: here, Previous: held})
	if got := []string{version(t, first), version(t, held), version(t, back)}; !slices.Equal(got, []string{"5/1", "5/2", "5/3"}) {
		t.Errorf("versions %v", got)
	}
}

func TestOurOffer(t *testing.T) {
	ours := Make(G711(), Local{Address: here, SessionID: 9})
	if !strings.Contains(string(ours), "m=audio 20000 RTP/AVP 0 8 101\r\n") {
		t.Errorf("%s", ours)
	}
	a, err := Accept(ours, []byte(head+"m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n"), G711())
	if err != nil {
		t.Fatal(err)
	}
	if a.Codecs[0].Name != "PCMA" || a.EventPT != 101 || a.Direction != sdp.RecvOnly {
		t.Errorf("%+v", a)
	}
	if _, err := Accept(ours, []byte(head+"m=audio 0 RTP/AVP 0\r\n"), G711()); err == nil {
		t.Error("a refused stream was accepted")
	}
	if _, err := Accept(ours, []byte(head), G711()); err == nil {
		t.Error("an answer without the stream was accepted")
	}
	next := Make(G711(), Local{Address: here, Previous: ours, Direction: sdp.SendOnly})
	if version(t, next) != "9/2" {
		t.Errorf("%s", next)
	}
}

func TestOurNewOfferKeepsTheSections(t *testing.T) {
	answer := receive(t, head+"m=video 4000 RTP/AVP 96\r\nm=audio 4004 RTP/AVP 0\r\n").Answer(Local{Address: here})
	d, err := sdp.Parse(Make(G711(), Local{Address: here, Previous: answer}))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Media) != 2 || d.Media[0].Kind != "video" || d.Media[0].Port != 0 || d.Media[1].Port != 20000 {
		t.Errorf("%+v", d.Media)
	}
}

// anyOffer draws offers from sections of every sort.
func anyOffer(t *rapid.T) string {
	sections := rapid.SliceOfN(rapid.SampledFrom([]string{
		"m=audio 4000 RTP/AVP 0 8\r\n", "m=audio 4002 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n",
		"m=audio 4004 RTP/SAVP 0\r\n", "m=audio 0 RTP/AVP 0\r\n", "m=video 4006 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
		"m=image 4008 udptl t38\r\n", "m=audio 4010 RTP/AVP 9 18\r\n", "m=audio 4012 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", "m=audio 4014 RTP/AVP\r\n",
	}), 1, 8).Draw(t, "sections")
	return head + strings.Join(sections, "")
}

// RFC 3264 §6: an answer has the offer's sections, in order, of the same media
// and transport; formats are among those offered; one stream at most is on.
func TestAnswersFollowTheirOffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyOffer(t)
		a, err := Receive([]byte(text), G711())
		if err != nil {
			if _, ok := errors.AsType[*Rejection](err); !ok {
				t.Fatalf("%v is no rejection", err)
			}
			return
		}
		raw := a.Answer(Local{Address: here, Direction: sdp.Direction(rapid.IntRange(0, 3).Draw(t, "wish"))})
		offer, _ := sdp.Parse([]byte(text))
		answer, err := sdp.Parse(raw)
		if err != nil || len(answer.Media) != len(offer.Media) {
			t.Fatalf("%v: %q answers %q", err, raw, text)
		}
		on := 0
		for i := range answer.Media {
			m, o := &answer.Media[i], &offer.Media[i]
			if m.Kind != o.Kind || m.Proto != o.Proto || len(m.Formats) == 0 {
				t.Fatalf("section %d: %+v answers %+v", i, m, o)
			}
			if m.Port == 0 {
				continue
			}
			on++
			for _, f := range m.Formats {
				if !slices.Contains(o.Formats, f) {
					t.Fatalf("format %s was not offered in %v", f, o.Formats)
				}
			}
			theirs, ours := offer.Direction(o), answer.Direction(m)
			if ours.And(theirs.Reverse()) != ours || ours != a.Direction {
				t.Fatalf("%v answers %v (agreed %v)", ours, theirs, a.Direction)
			}
		}
		if on != 1 {
			t.Fatalf("%d streams are on in %q", on, raw)
		}
	})
}

// Both ends running this engine come to the same agreement, seen from their sides.
func TestBothEndsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caps := G711()
		other := G711()
		if rapid.Bool().Draw(t, "other way round") {
			slices.Reverse(other.Codecs)
		}
		other.RTCPMux = rapid.Bool().Draw(t, "mux")
		far := netip.MustParseAddrPort("203.0.113.1:30000")
		ours := Make(caps, Local{Address: here, Direction: sdp.Direction(rapid.IntRange(0, 3).Draw(t, "ours"))})
		theirs, err := Receive(ours, other)
		if err != nil {
			t.Fatal(err)
		}
		answer := theirs.Answer(Local{Address: far, Direction: sdp.Direction(rapid.IntRange(0, 3).Draw(t, "theirs"))})
		mine, err := Accept(ours, answer, caps)
		if err != nil {
			t.Fatal(err)
		}
		if mine.Direction != theirs.Direction.Reverse() || mine.RTCPMux != theirs.RTCPMux || mine.EventPT != theirs.EventPT ||
			mine.Remote != far || theirs.Remote != here || !slices.Equal(mine.Codecs, theirs.Codecs) {
			t.Fatalf("%+v\n%+v", mine, theirs)
		}
	})
}
