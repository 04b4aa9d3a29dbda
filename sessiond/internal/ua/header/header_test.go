package header

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestScan(t *testing.T) {
	m, err := Scan([]byte("\r\nINVITE sip:a SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z1 ,\r\n\t SIP/2.0/TCP b\r\nTO :\r\n <sip:a>\r\nX-Odd;: no\r\n\r\nbody\r\n"))
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("err = %v", err)
	}
	if m.StartLine != "INVITE sip:a SIP/2.0" || m.Value("to") != "<sip:a>" || string(m.Body) != "body\r\n" || len(m.Fields) != 2 {
		t.Errorf("%+v", m)
	}
	if m.Fields[0].Name != "v" || m.Fields[0].Key != "via" {
		t.Errorf("%+v", m.Fields[0])
	}
	if via, err := m.Top(); err != nil || via.SentBy != "a" || via.Transport != "UDP" {
		t.Errorf("%+v %v", via, err)
	}
	if _, err := Scan([]byte("A b c\r\n" + strings.Repeat("X: y\r\n", MaxFields+1) + "\r\n")); !errors.Is(err, ErrTooManyFields) {
		t.Errorf("err = %v", err)
	}
	for _, cut := range []string{"INVITE sip:a SIP/2.0", "INVITE sip:a SIP/2.0\r\nTo: a", "INVITE sip:a SIP/2.0\r\nTo: a\r\n"} {
		if _, err := Scan([]byte(cut)); !errors.Is(err, ErrNoEnd) {
			t.Errorf("%q: %v", cut, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]Address{
		`<sip:a@b>`:                              {URI: "sip:a@b"},
		`sip:a@b;tag=1`:                          {URI: "sip:a@b", Params: "tag=1"},
		`Al <sip:a@b;x=1>;tag=2`:                 {Display: "Al", URI: "sip:a@b;x=1", Params: "tag=2"},
		`"A \"l\", <x>" <sip:a@b>;q="a;b";tag=3`: {Display: `A "l", <x>`, URI: "sip:a@b", Params: `q="a;b";tag=3`},
		`Al<sip:a@b>`:                            {Display: "Al", URI: "sip:a@b"},
		`"" <sip:a,b@c> ; Tag = 4`:               {URI: "sip:a,b@c", Params: " Tag = 4"},
	} {
		if got, err := ParseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "<>", "<sip:a", `"a <sip:b>`, `"a" sip:b`, "<sip:a>x", "< sip:a >", "sip:a b"} {
		if got, err := ParseAddress(bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func TestParams(t *testing.T) {
	p := Params(`branch  =  "z;9" ;rport; Received=1.2.3.4;`)
	for name, want := range map[string]string{"branch": "z;9", "RPORT": "", "received": "1.2.3.4"} {
		if got, ok := p.Get(name); !ok || got != want {
			t.Errorf("%s: %q %v", name, got, ok)
		}
	}
	if _, ok := p.Get("ttl"); ok || !p.Valid() {
		t.Error("ttl, or not valid")
	}
	for _, bad := range []Params{";;", "a;;b", "=x", `a="b`, "a b=c"} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

func TestLists(t *testing.T) {
	got := SplitList(`"a,b" <sip:c,d>, , e;x="f,g",h`)
	if want := []string{`"a,b" <sip:c,d>`, `e;x="f,g"`, "h"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// quote makes a quoted string (RFC 3261 §25.1).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func TestUnquoteUndoesQuote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Clean(rapid.String().Draw(t, "text"))
		if strings.ContainsAny(s, "\r\n\x00") {
			t.Fatalf("%q is not clean", s)
		}
		q := quote(s)
		if got := Unquote(q); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		a, err := ParseAddress(q + " <sip:a@b>;tag=x")
		if err != nil || a.Display != s || a.Param("tag") != "x" {
			t.Fatalf("%+v %v", a, err)
		}
	})
}

func TestVia(t *testing.T) {
	for text, want := range map[string]Via{
		"SIP/2.0/UDP h:5060;branch=x":        {"UDP", "h:5060", "branch=x"},
		"SIP / 2.0 / tcp   h : 5060 ; rport": {"TCP", "h:5060", " rport"},
		"SIP/2.0/TLS [2001:db8::1]:5061":     {"TLS", "[2001:db8::1]:5061", ""},
	} {
		if got, err := ParseVia(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "SIP/2.0/UDP", "SIP/3.0/UDP h", "HTTP/2.0/UDP h", "SIP/2.0/U@P h", "SIP/2.0/UDP <h>"} {
		if got, err := ParseVia(bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z1, SIP/2.0/TCP b\r\nFrom: \"a\" <sip:a>;tag=1\r\nCSeq: 1 INVITE\r\n\r\nbody"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, _ := Scan(raw)
		if len(m.Fields) > MaxFields {
			t.Fatal("too many fields")
		}
		for _, fd := range m.Fields {
			if strings.ContainsAny(fd.Name+fd.Value, "\r\n\x00") {
				t.Fatalf("line end in %+v", fd)
			}
			for _, v := range SplitList(fd.Value) {
				if a, err := ParseAddress(v); err == nil {
					a.Param("tag")
					a.Params.Valid()
				}
				_, _ = ParseVia(v)
			}
		}
		_, _, _ = m.CSeq()
		_, _ = m.Top()
	})
}
