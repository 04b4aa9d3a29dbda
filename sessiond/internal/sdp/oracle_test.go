package sdp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	pion "github.com/pion/sdp/v3"
	"pgregory.net/rapid"
)

// anyDescription draws lines that may or may not make a description.
func anyDescription(t *rapid.T) string {
	session := rapid.SliceOfN(rapid.SampledFrom([]string{
		"i=info", "u=http://example.com", "e=a@example.com", "p=+46", "c=IN IP4 192.0.2.1", "c=IN IP6 2001:db8::1", "b=AS:64",
		"t=0 0", "a=sendonly", "a=group:BUNDLE 0", "k=prompt", "c=IN IP4 0.0.0.0",
	}), 0, 6).Draw(t, "session")
	media := rapid.SliceOfN(rapid.SampledFrom([]string{
		"m=audio 4000 RTP/AVP 0 8 101", "m=video 4002/2 RTP/AVP 96", "m=audio 0 RTP/SAVP 0", "m=image 4004 udptl t38", "c=IN IP4 192.0.2.2/127",
		"a=rtpmap:101 telephone-event/8000", "a=rtpmap:96 H264/90000", "a=fmtp:101 0-15", "a=inactive", "a=recvonly", "a=ptime:20", "b=TIAS:64000", "a=x-odd",
	}), 0, 12).Draw(t, "media")
	return "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\n" + strings.Join(append(append(session, "t=0 0"), media...), "\r\n") + "\r\n"
}

// What another parser accepts, ours accepts, and finds the same in it.
func TestAgainstAnotherParser(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		text := anyDescription(t)
		var want pion.SessionDescription
		if want.Unmarshal([]byte(text)) != nil {
			return
		}
		accepted++
		got, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		if len(got.Media) != len(want.MediaDescriptions) {
			t.Fatalf("%d sections, want %d: %q", len(got.Media), len(want.MediaDescriptions), text)
		}
		for i, w := range want.MediaDescriptions {
			g := &got.Media[i]
			have := fmt.Sprint(g.Kind, " ", g.Port, " ", g.Proto, " ", g.Formats)
			if is := fmt.Sprint(w.MediaName.Media, " ", w.MediaName.Port.Value, " ", strings.Join(w.MediaName.Protos, "/"), " ", w.MediaName.Formats); have != is {
				t.Fatalf("%s, want %s", have, is)
			}
			if _, direct := g.Attr(got.Direction(g).String()); direct {
				if _, ok := w.Attribute(got.Direction(g).String()); !ok {
					t.Fatalf("direction %v is not in %v", got.Direction(g), w.Attributes)
				}
			}
			conn := w.ConnectionInformation
			if conn == nil {
				conn = want.ConnectionInformation
			}
			addr, _, ok := got.Connection(g)
			if ok != (conn != nil) {
				t.Fatalf("connection %v, want %v: %q", ok, conn, text)
			}
			if !ok {
				continue
			}
			if want, _, _ := strings.Cut(conn.Address.Address, "/"); addr.String() != want {
				t.Fatalf("connection %v, want %v: %q", addr, conn, text)
			}
			for _, f := range g.RTPFormats() {
				c, err := want.GetCodecForPayloadType(f.PT)
				if err == nil && f.PT >= 96 && (!strings.EqualFold(c.Name, f.Name) || strconv.Itoa(int(c.ClockRate)) != strconv.Itoa(f.Rate)) && unique(got, f) {
					t.Fatalf("format %+v, want %+v: %q", f, c, text)
				}
			}
		}
	})
	if accepted == 0 {
		t.Fatal("the other parser accepted nothing: this test tests nothing")
	}
}

// unique tells whether only one section explains the payload type: the other
// parser looks them up over all sections.
func unique(d *Description, f Format) bool {
	n := 0
	for i := range d.Media {
		for _, a := range d.Media[i].Attrs("rtpmap") {
			if strings.HasPrefix(a, strconv.Itoa(int(f.PT))+" ") {
				n++
			}
		}
	}
	return n == 1
}
