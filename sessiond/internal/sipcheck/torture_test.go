package sipcheck

import (
	"strings"
	"testing"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

var checker = Checker{Allow: []string{"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO"}, Supported: []string{"replaces"}}

func check(text string, stream bool) (Verdict, header.Message) {
	m, err := header.Scan([]byte(text))
	v := checker.Request(&m, err, stream, len(text))
	return v, m
}

const body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

// message builds a request; every field may be replaced ("Name" → line) or, by
// an empty line, left out. Names that are not in the usual ones are added.
func message(line string, body string, changes ...string) string {
	method, _, _ := strings.Cut(line, " ")
	usual := []string{
		"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKtorture", "Max-Forwards: 70",
		"From: <sip:caller@example.net>;tag=torture", "To: <sip:callee@example.com>", "Call-ID: torture@192.0.2.1",
		"CSeq: 1 " + method, "Contact: <sip:caller@192.0.2.1>",
	}
	if body != "" {
		usual = append(usual, "Content-Type: application/sdp")
	}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, ":")
		replaced := false
		for i, u := range usual {
			if n, _, _ := strings.Cut(u, ":"); n == name {
				usual[i], replaced = c, true
				if strings.TrimSpace(value) == "" {
					usual[i] = ""
				}
				break
			}
		}
		if !replaced {
			usual = append(usual, c)
		}
	}
	var b strings.Builder
	b.WriteString(line + "\r\n")
	for _, u := range usual {
		if u != "" {
			b.WriteString(u + "\r\n")
		}
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

const invite = "INVITE sip:callee@example.com SIP/2.0"

// Messages that are legal, however odd (RFC 4475 §3.1.1).
var legal = map[string]string{
	"plain":                  message(invite, body),
	"folding and odd blanks": "INVITE sip:vivek@example.com;user=ip SIP/2.0\r\nTO :\r\n sip:vivek@example.com ;   tag    = 19n\r\nfrom   : \"J Rosen \\\\\\\"\"       <sip:j@example.com>\r\n  ;\r\n  tag = 98asjd8\r\nmAx-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\ncseq: 0009\r\n  INVITE\r\nVia  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\ns :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\nUnknownHeaderWithUnusualValue: ;;,,;;,;\r\nContent-Type: application/sdp\r\nRoute:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\nv:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.0.2.3   ; branch=\r\n z9hG4bK30239\r\nm:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\r\n" + body,
	"escapes in the user":    message("INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0", body, "To: <sip:%75se%72@example.com>"),
	"escaped null":           message("INVITE sip:null-%00-null@example.com SIP/2.0", body),
	"question in the user":   message("INVITE sip:a?b@example.net SIP/2.0", body),
	"comma in a Via":         message(invite, body, "Via: SIP/2.0/UDP 192.0.2.1;x=\"a,b\";branch=z9hG4bKa"),
	"untyped SDP":            message(invite, body, "Content-Type:"),
	"parameters in the user": message("INVITE sip:user;par=u%40example.net@example.com SIP/2.0", body),
	"no blank before angle":  message(invite, body, "From: caller<sip:caller@example.net>;tag=323"),
	"unknown transport":      message("OPTIONS sip:callee@example.com SIP/2.0", "", "Via: SIP/2.0/UNKNOWN 192.0.2.1;branch=z9hG4bKa"),
	"two parts":              message(invite, "--b\r\nContent-Type: application/isup\r\n\r\nbinary\x00\x01\r\n--b\r\nContent-Type: application/sdp\r\n\r\n"+body+"\r\n--b--\r\n", "Content-Type: multipart/mixed;boundary=b"),
	"optional body":          message(invite, "<x/>", "Content-Type: text/xml", "Content-Disposition: render;handling=optional"),
	"2543 without branch":    message(invite, body, "Via: SIP/2.0/UDP iftgw.example.com", "From: <sip:+13035551111@ift.example.net;user=phone>", "Contact:", "Max-Forwards:", "Record-Route: <sip:callee@example.com;maddr=ss1.example.com>"),
	"bare branch cookie":     message("OPTIONS sip:callee@example.com SIP/2.0", "", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"),
	"tel":                    message("INVITE tel:+46850510 SIP/2.0", body),
	"long values":            message(invite, body, "From: <sip:caller@example.net;unknown="+strings.Repeat("long", 300)+">;tag="+strings.Repeat("tag", 170), "Via: SIP/2.0/UDP "+strings.Repeat("host", 60)+".com;branch=z9hG4bK"+strings.Repeat("b", 500)),
	"longest identifiers":    message("INVITE sip:"+strings.Repeat("u", 512)+"@example.com SIP/2.0", body, "From: <sip:"+strings.Repeat("f", 512)+"@example.net>;tag="+strings.Repeat("t", 512), "To: <sip:"+strings.Repeat("t", 512)+"@example.com>", "Call-ID: "+strings.Repeat("c", 512)),
	"zero hops to us":        message("OPTIONS sip:callee@example.com SIP/2.0", "", "Max-Forwards: 0"),
	"unknown scheme in To":   message("OPTIONS sip:callee@example.com SIP/2.0", "", "To: <isbn:2983792873>", "From: <http://www.example.com>;tag=3"),
	"bad date":               message(invite, body, "Date: Fri, 01 Jan 2010 16:00:00 EST"),
	"required and known":     message(invite, body, "Require: Replaces"),
	"require in CANCEL":      message("CANCEL sip:callee@example.com SIP/2.0", "", "Require: nothingSupportsThis", "Contact:"),
	"IPv6 everywhere":        message("INVITE sip:callee@[2001:db8::10]:5070 SIP/2.0", body, "Via: SIP/2.0/UDP [2001:db8::9:1]:5060;received=[2001:db8::9:255];branch=z9hG4bKa", "Contact: <sip:caller@[2001:db8::1]>"),
	"UTF-8 name":             message(invite, body, "From: Åsa Öberg <sip:asa@example.net>;tag=1", "Subject: smörgås"),
	"line feeds only":        strings.ReplaceAll(message(invite, "", "Content-Length: 0"), "\r\n", "\n"),
	"blank lines before":     "\r\n\r\n" + message(invite, body),
	"body beyond the length": message(invite, body+"INVITE sip:second@example.com SIP/2.0\r\n", "Content-Length: "+itoa(len(body))),
	"trailing semicolon":     message(invite, body, "Contact: <sip:caller@192.0.2.1>;"),
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestLegalMessagesPass(t *testing.T) {
	for name, text := range legal {
		t.Run(name, func(t *testing.T) {
			if v, _ := check(text, false); v.Outcome != Pass {
				t.Errorf("%+v\n%s", v, text)
			}
		})
	}
}

func TestTheSDPIsFound(t *testing.T) {
	for _, name := range []string{"plain", "two parts", "body beyond the length"} {
		if v, m := check(legal[name], false); strings.TrimSpace(string(v.SDP)) != strings.TrimSpace(body) {
			t.Errorf("%s: %q (body %q)", name, v.SDP, m.Body)
		}
	}
	if v, _ := check(legal["optional body"], false); v.SDP != nil {
		t.Errorf("optional body: %q", v.SDP)
	}
	ack := message("ACK sip:callee@example.com SIP/2.0", "<x/>", "Content-Type: text/xml")
	if v, _ := check(ack, false); v.Outcome != Pass || v.SDP != nil {
		t.Errorf("ACK: %+v", v)
	}
}

// Requests that are refused (RFC 4475 §3.1.2, §3.2, §3.3 and RFC 3261 §8.2).
var refused = []struct {
	name string
	code int
	text string
}{
	{"separators in excess", 400, message(invite, body, "Via: SIP/2.0/UDP 192.0.2.15;;,;,,")},
	{"contact of separators", 400, message(invite, body, "Contact: \"Joe\" <sip:joe@example.org>;;;;")},
	{"length beyond the datagram", 400, message(invite, body, "Content-Length: 9999")},
	{"negative length", 400, message(invite, body, "Content-Length: -999")},
	{"two lengths", 400, message(invite, body, "Content-Length: 1", "content-length : 2")},
	{"compact and long length", 400, message(invite, body, "l: 1", "Content-Length: 2")},
	{"huge CSeq", 400, message("OPTIONS sip:a@example.com SIP/2.0", "", "CSeq: 36893488147419103232 OPTIONS")},
	{"CSeq of 2**31", 400, message("OPTIONS sip:a@example.com SIP/2.0", "", "CSeq: 2147483648 OPTIONS")},
	{"no number in CSeq", 400, message(invite, body, "CSeq: INVITE")},
	{"huge Max-Forwards", 400, message(invite, body, "Max-Forwards: 300")},
	{"huge Expires", 400, message(invite, body, "Expires: 10000000000000000")},
	{"open quote", 400, message(invite, body, "To: \"Mr. J. User <sip:j.user@example.com>")},
	{"angle brackets around the URI", 400, message("INVITE <sip:user@example.com> SIP/2.0", body)},
	{"blank within the URI", 400, message("INVITE sip:user@example.com; lr SIP/2.0", body)},
	{"blanks between the parts", 400, message("INVITE  sip:user@example.com  SIP/2.0", body)},
	{"blank behind the line", 400, message("OPTIONS sip:remote@example.com SIP/2.0 ", "")},
	{"headers in the URI", 400, message("INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0", body)},
	{"bad escape", 400, message("INVITE sip:us%zzer@example.com SIP/2.0", body)},
	{"short escape", 400, message("INVITE sip:user@example.com;x=%4 SIP/2.0", body)},
	{"no host", 400, message("INVITE sip:user@ SIP/2.0", body)},
	{"no scheme", 400, message("INVITE callee SIP/2.0", body)},
	{"bad port", 400, message("INVITE sip:user@example.com:99999 SIP/2.0", body)},
	{"bad IPv6", 400, message("INVITE sip:user@[2001:db8::zz] SIP/2.0", body)},
	{"blanks in an address", 400, message(invite, body, "To: \"Watson, Thomas\" < sip:t.watson@example.org >")},
	{"comma in a bare name", 400, message(invite, body, "From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43")},
	{"unknown version", 505, message("OPTIONS sip:t.watson@example.org SIP/7.0", "")},
	{"method differs", 400, message("OPTIONS sip:user@example.com SIP/2.0", "", "CSeq: 8 INVITE")},
	{"unknown method differs", 400, message("NEWMETHOD sip:user@example.com SIP/2.0", "", "CSeq: 8 INVITE")},
	{"case of the method differs", 400, message(invite, body, "CSeq: 8 invite")},
	{"insufficient", 400, message(invite, body, "Call-ID:", "From:", "To:")},
	{"no To", 400, message(invite, body, "To:")},
	{"no From", 400, message(invite, body, "From:")},
	{"no Call-ID", 400, message(invite, body, "Call-ID:")},
	{"no CSeq", 400, message(invite, body, "CSeq:")},
	{"no Contact", 400, message(invite, body, "Contact:")},
	{"two Contacts", 400, message(invite, body, "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>")},
	{"star Contact", 400, message(invite, body, "Contact: *")},
	{"two Call-IDs", 400, message(invite, body, "i: other@example.com")},
	{"two Froms", 400, message(invite, body, "f: <sip:b@example.com>;tag=2")},
	{"two Tos", 400, message(invite, body, "t: <sip:b@example.com>")},
	{"two CSeqs", 400, message(invite, body, "cseq: 2 INVITE")},
	{"two Max-Forwards", 400, message(invite, body, "max-forwards: 5")},
	{"no name", 400, message(invite, body, "Bad Header Name: x")},
	{"no colon", 400, message(invite, body, "JustText")},
	{"unknown scheme", 416, message("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", "")},
	{"known but strange scheme", 416, message("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", "")},
	{"unknown extension", 420, message(invite, body, "Require: nothingSupportsThis, replaces", "require: nothingSupportsThisEither")},
	{"unknown body", 415, message(invite, "<x/>", "Content-Type: application/unknownformat")},
	{"compressed body", 415, message(invite, body, "Content-Encoding: gzip")},
	{"parts without SDP", 415, message(invite, "--b--", "Content-Type: multipart/mixed")},
	{"nothing acceptable", 406, message(invite, body, "Accept: text/nobodyKnowsThis")},
	{"no hops left", 483, message(invite, body, "Max-Forwards: 0")},
	{"known method", 405, message("REFER sip:callee@example.com SIP/2.0", "")},
	{"registration", 405, message("REGISTER sip:example.com SIP/2.0", "", "Contact: *")},
	{"unknown method", 501, message("!interesting-Method0123456789_*+`.%indeed'~ sip:callee@example.com SIP/2.0", "")},
	{"declared too big", 513, message(invite, body, "Content-Length: 70000")},
	{"too big", 513, message(invite, strings.Repeat("a", MaxMessage))},
	{"header section without end", 400, strings.TrimSuffix(message(invite, "", "Content-Length: 0"), "\r\n")},
}

func TestBadMessagesAreRefused(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			if v, _ := check(c.text, false); v.Outcome != Reject || v.Code != c.code {
				t.Errorf("%+v, want %d\n%s", v, c.code, c.text)
			}
		})
	}
}

// An identifier that no index takes is refused by name.
func TestLongIdentifiersAreRefused(t *testing.T) {
	long := strings.Repeat("x", 513)
	for text, reason := range map[string]string{
		message(invite, body, "Call-ID: "+long):                                          "Too Long call-id",
		message(invite, body, "From: <sip:a@example.net>;tag="+long):                     "Too Long from",
		message(invite, body, "From: <sip:"+long+"@example.net>;tag=a"):                  "Too Long from",
		message(invite, body, "From: <tel:+"+strings.Repeat("1", 512)+">;tag=a"):         "Too Long from",
		message(invite, body, "To: <sip:"+long+"@example.com>"):                          "Too Long to",
		message("BYE sip:a@example.com SIP/2.0", "", "To: <sip:a@example>;tag="+long):    "Too Long to",
		message("INVITE sip:"+long+"@example.com SIP/2.0", body):                         "Too Long Request URI",
		message("INVITE tel:"+strings.Repeat("1", 513)+";phone-context=a SIP/2.0", body): "Too Long Request URI",
	} {
		if v, _ := check(text, false); v.Outcome != Reject || v.Code != 400 || v.Reason != reason {
			t.Errorf("%d %q, want %q", v.Code, v.Reason, reason)
		}
	}
}

func TestRefusalsSayWhatWouldDo(t *testing.T) {
	for name, want := range map[string]Header{
		"unknown extension": {"Unsupported", "nothingSupportsThis, nothingSupportsThisEither"},
		"unknown body":      {"Accept", "application/sdp"},
		"compressed body":   {"Accept-Encoding", "identity"},
		"known method":      {"Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"},
		"unknown method":    {"Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"},
	} {
		for _, c := range refused {
			if c.name != name {
				continue
			}
			if v, _ := check(c.text, false); len(v.Headers) == 0 || v.Headers[0] != want {
				t.Errorf("%s: %v", name, v.Headers)
			}
		}
	}
}

func TestWhatCannotBeAnsweredIsDropped(t *testing.T) {
	for _, c := range []struct{ name, label, text string }{
		{"nothing", "empty", "\r\n\r\n"},
		{"another protocol", "not_sip", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"rubbish", "not_sip", "\x00\x01\x02\x03"},
		{"no Via", "no_via", message(invite, body, "Via:")},
		{"unreadable Via", "no_via", message(invite, body, "Via: SIP/2.0")},
		{"bad ACK", "bad_ack", message("ACK sip:callee@example.com SIP/2.0", "", "CSeq: 1 INVITE")},
	} {
		if v, _ := check(c.text, false); v.Outcome != Drop || v.Label != c.label {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestStreamsNeedALength(t *testing.T) {
	if v, _ := check(message(invite, body), true); v.Outcome != Reject || v.Code != 400 {
		t.Errorf("%+v", v)
	}
}

// FuzzRequest: whatever comes, there is a verdict, and it can be carried out.
func FuzzRequest(f *testing.F) {
	for _, text := range legal {
		f.Add([]byte(text), false)
	}
	for _, c := range refused {
		f.Add([]byte(c.text), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, stream bool) {
		m, err := header.Scan(raw)
		v := checker.Request(&m, err, stream, len(raw))
		switch v.Outcome {
		case Drop:
			if v.Label == "" {
				t.Fatal("a drop without a label")
			}
		case Reject:
			if v.Code < 400 || v.Code > 599 || v.Reason == "" || strings.ContainsAny(v.Reason, "\r\n") {
				t.Fatalf("%+v", v)
			}
			for _, h := range v.Headers {
				if strings.ContainsAny(h.Name+h.Value, "\r\n") {
					t.Fatalf("line end in %+v", h)
				}
			}
		case Pass:
			seq, method, ok := m.CSeq()
			if !ok || method != v.Method || seq > 1<<31-1 || m.Value("call-id") == "" || m.Value("to") == "" || m.Value("from") == "" {
				t.Fatalf("passed without what it needs: %q", raw)
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	raw := []byte(legal["plain"])
	b.ReportAllocs()
	for b.Loop() {
		m, err := header.Scan(raw)
		if v := checker.Request(&m, err, false, len(raw)); v.Outcome != Pass {
			b.Fatal(v)
		}
	}
}
