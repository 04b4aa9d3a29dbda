package dialog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

func scan(t testing.TB, lines ...string) *header.Message {
	t.Helper()
	m, err := header.Scan([]byte(strings.Join(lines, "\r\n") + "\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

func invite(t testing.TB, more ...string) *header.Message {
	return scan(t, append([]string{"INVITE sip:1000@us SIP/2.0", "Via: SIP/2.0/UDP a;branch=z9hG4bK1", `From: "A" <sip:alice@them;x=y>;tag=remote`,
		"To: <sip:1000@us>", "Call-ID: c1", "CSeq: 7 INVITE", "Contact: <sip:alice@192.0.2.1:5062>"}, more...)...)
}

func fromInvite(t testing.TB, more ...string) Dialog {
	t.Helper()
	d, err := FromInvite(invite(t, more...), 3, "local", "UDP", "192.0.2.1:5060")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFromInvite(t *testing.T) {
	got := fromInvite(t, "Record-Route: <sip:p2;lr>, <sip:p1;lr>", "Record-Route: <sip:p0;lr>")
	want := Dialog{Leg: 3, CallID: "c1", LocalTag: "local", RemoteTag: "remote", LocalURI: "sip:1000@us", RemoteURI: "sip:alice@them;x=y",
		RemoteTarget: "sip:alice@192.0.2.1:5062", RouteSet: []string{"sip:p2;lr", "sip:p1;lr", "sip:p0;lr"},
		RemoteCSeq: 7, InviteCSeq: 7, Transport: "udp", Source: "192.0.2.1:5060"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

func TestSecure(t *testing.T) {
	m := invite(t)
	m.StartLine = "INVITE SIPS:1000@us SIP/2.0"
	for transport, want := range map[string]bool{"tls": true, "tcp": false} {
		if d, err := FromInvite(m, 0, "l", transport, "192.0.2.1:5061"); err != nil || d.Secure != want {
			t.Errorf("%s: %v %v", transport, d.Secure, err)
		}
	}
}

func TestACallerOfRFC2543(t *testing.T) {
	m := scan(t, "INVITE sip:1000@us SIP/2.0", "From: <sip:alice@them>", "To: <sip:1000@us>", "Call-ID: c1", "CSeq: 1 INVITE")
	d, err := FromInvite(m, 0, "local", "udp", "192.0.2.1:5060")
	if err != nil || d.RemoteTag != "" || d.RemoteTarget != "sip:alice@them" {
		t.Fatalf("%+v %v", d, err)
	}
	if r := d.Next("BYE"); r.To != "<sip:alice@them>" {
		t.Errorf("To %q", r.To)
	}
}

func TestNextRequest(t *testing.T) {
	for _, c := range []struct {
		name    string
		routes  []string
		target  string
		uri     string
		route   []string
		nextHop string
	}{
		{"direct", nil, "sip:alice@192.0.2.1:5062;method=INVITE;x=1?Subject=s", "sip:alice@192.0.2.1:5062;x=1", nil, "sip:alice@192.0.2.1:5062;method=INVITE;x=1?Subject=s"},
		{"loose", []string{"sip:p1;lr", "sip:p2;lr"}, "sip:a@t", "sip:a@t", []string{"sip:p1;lr", "sip:p2;lr"}, "sip:p1;lr"},
		{"loose, spelt oddly", []string{"sip:p1; LR=on"}, "sip:a@t", "sip:a@t", []string{"sip:p1; LR=on"}, "sip:p1; LR=on"},
		{"strict", []string{"sip:p1", "sip:p2;lr"}, "sip:a@t", "sip:p1", []string{"sip:p2;lr", "sip:a@t"}, "sip:p1"},
		{"not lr", []string{"sip:p1;lrx=1"}, "sip:a@t", "sip:p1;lrx=1", []string{"sip:a@t"}, "sip:p1;lrx=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := fromInvite(t)
			d.RouteSet, d.RemoteTarget = c.routes, c.target
			want := Request{Method: "BYE", URI: c.uri, Route: c.route, From: "<sip:1000@us>;tag=local", To: "<sip:alice@them;x=y>;tag=remote", CallID: "c1", CSeq: 1, NextHop: c.nextHop}
			if diff := cmp.Diff(d.Next("BYE"), want); diff != "" {
				t.Error(diff)
			}
			if again := d.Next("INFO"); again.CSeq != 2 {
				t.Errorf("CSeq %d", again.CSeq)
			}
			if ack := d.Next("ACK"); ack.CSeq != 2 {
				t.Errorf("CSeq of ACK %d", ack.CSeq)
			}
		})
	}
}

func within(t testing.TB, method, cseq string, more ...string) *header.Message {
	return scan(t, append([]string{method + " sip:us SIP/2.0", "From: <sip:alice@them>;tag=remote", "To: <sip:1000@us>;tag=local", "Call-ID: c1", "CSeq: " + cseq}, more...)...)
}

func TestReceive(t *testing.T) {
	d := fromInvite(t)
	if ref := d.Receive(within(t, "INFO", "8 INFO", "Contact: <sip:elsewhere>"), "TCP", "192.0.2.2:1"); ref != nil {
		t.Fatal(ref)
	}
	if d.RemoteTarget != "sip:alice@192.0.2.1:5062" || d.RemoteCSeq != 8 || d.Transport != "tcp" || d.Source != "192.0.2.2:1" {
		t.Errorf("%+v", d)
	}
	if ref := d.Receive(within(t, "INVITE", "10 INVITE", "Contact: <sip:moved@192.0.2.3>"), "udp", "192.0.2.3:1"); ref != nil {
		t.Fatal(ref)
	}
	if d.RemoteTarget != "sip:moved@192.0.2.3" {
		t.Errorf("target %s", d.RemoteTarget)
	}
	before := d
	for name, c := range map[string]struct {
		m    *header.Message
		code int
	}{
		"old":           {within(t, "BYE", "9 BYE"), 500},
		"equal":         {within(t, "BYE", "10 BYE"), 500},
		"no number":     {within(t, "BYE", "x BYE"), 400},
		"other call":    {scan(t, "BYE sip:us SIP/2.0", "From: <sip:a>;tag=remote", "To: <sip:b>;tag=local", "Call-ID: c2", "CSeq: 11 BYE"), 481},
		"other caller":  {scan(t, "BYE sip:us SIP/2.0", "From: <sip:a>;tag=mallory", "To: <sip:b>;tag=local", "Call-ID: c1", "CSeq: 11 BYE"), 481},
		"other callee":  {scan(t, "BYE sip:us SIP/2.0", "From: <sip:a>;tag=remote", "To: <sip:b>;tag=x", "Call-ID: c1", "CSeq: 11 BYE"), 481},
		"case of a tag": {scan(t, "BYE sip:us SIP/2.0", "From: <sip:a>;tag=Remote", "To: <sip:b>;tag=local", "Call-ID: c1", "CSeq: 11 BYE"), 481},
	} {
		ref := d.Receive(c.m, "udp", "203.0.113.1:1")
		if ref == nil || ref.Code != c.code {
			t.Errorf("%s: %v", name, ref)
		}
		if diff := cmp.Diff(d, before); diff != "" {
			t.Errorf("%s changed the dialog: %s", name, diff)
		}
		if _, ok := errors.AsType[*Refusal](error(ref)); !ok {
			t.Errorf("%s: no refusal", name)
		}
	}
	if ref := d.Receive(scan(t, "BYE sip:us SIP/2.0", "From: <sip:a>;tag=remote", "To: <sip:b>;Tag=LOCAL", "Call-ID: c1", "CSeq: 11 BYE"), "udp", "192.0.2.3:1"); ref != nil {
		t.Errorf("our tag in another case: %v", ref)
	}
}

func TestOffersTakeTurns(t *testing.T) {
	var o Offers
	if ref := o.BeginTheirs(); ref != nil {
		t.Fatal(ref)
	}
	if ref := o.BeginTheirs(); ref == nil || ref.Code != 500 || ref.RetryAfter < 0 || ref.RetryAfter > 10 {
		t.Errorf("overlap: %+v", ref)
	}
	if o.BeginOurs() {
		t.Error("ours began within theirs")
	}
	o.EndTheirs()
	if !o.BeginOurs() || o.BeginOurs() {
		t.Error("ours")
	}
	if ref := o.BeginTheirs(); ref == nil || ref.Code != 491 {
		t.Errorf("glare: %+v", ref)
	}
	o.EndOurs()
	if ref := o.BeginTheirs(); ref != nil {
		t.Error(ref)
	}
}

func TestARecordKeepsEverything(t *testing.T) {
	text := rapid.StringMatching(`[a-z0-9:;@.<>]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		d := Dialog{Leg: rapid.Uint8().Draw(t, "leg"), CallID: text.Draw(t, "call-id"), LocalTag: text.Draw(t, "lt"), RemoteTag: text.Draw(t, "rt"),
			LocalURI: text.Draw(t, "lu"), RemoteURI: text.Draw(t, "ru"), RemoteTarget: text.Draw(t, "target"),
			RouteSet: rapid.SliceOfN(text, 1, 3).Draw(t, "routes"), LocalCSeq: rapid.Uint32().Draw(t, "lc"), RemoteCSeq: rapid.Uint32().Draw(t, "rc"),
			Secure: rapid.Bool().Draw(t, "secure"), Transport: text.Draw(t, "transport"), Source: text.Draw(t, "source"),
			InviteCSeq: rapid.Uint32().Draw(t, "ic"), LocalSDP: text.Draw(t, "ls"), RemoteSDP: text.Draw(t, "rs"),
			Accepted: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "accepted"), 5).UTC()}
		if diff := cmp.Diff(FromRecord(d.ToRecord()), d); diff != "" {
			t.Fatal(diff)
		}
	})
	if d := FromRecord((&Dialog{}).ToRecord()); !d.Accepted.IsZero() || d.RouteSet != nil {
		t.Errorf("%+v", d)
	}
}

func TestURIParts(t *testing.T) {
	for uri, want := range map[string][2]string{
		"sip:alice@Example.COM:5060;x=y?h=1":  {"alice", "example.com"},
		"sips:+46%20850@[2001:db8::1]:5061":   {"+46 850", "2001:db8::1"},
		"sip:alice:secret@h":                  {"alice", "h"},
		"sip:+4685051;phone-context=x@h":      {"+4685051", "h"},
		"sip:h":                               {"", "h"},
		"tel:+46-850-51;phone-context=+46":    {"+46-850-51", ""},
		"sip:a%0d%0aEvil%3a%20x@h":            {"a%0d%0aEvil%3a%20x", "h"},
		"http://example.com":                  {"", ""},
		"sip:odd@user@h":                      {"odd@user", "h"},
		"nonsense":                            {"", ""},
		"sip:[2001:db8::1":                    {"", ""},
		"sip:sips%3Auser%40example.com@x.net": {"sips:user@example.com", "x.net"},
	} {
		if got := [2]string{SIPUser(uri), SIPHost(uri)}; got != want {
			t.Errorf("%s: %q, want %q", uri, got, want)
		}
	}
}
