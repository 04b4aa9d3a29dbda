package ua

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// What we do, as the headers of OPTIONS and 200 say it.
var (
	allowed   = []string{"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO"}
	supported = []string(nil)

	allow           = Header{"Allow", strings.Join(allowed, ", ")}
	supportedHeader = Header{"Supported", strings.Join(supported, ", ")}
	acceptSDP       = Header{"Accept", "application/sdp, application/dtmf-relay, application/dtmf"}
)

// response builds an answer (RFC 3261 §8.2.6). What an answer repeats of its
// request is repeated as it was spelt. tag goes into To if it has none.
func (r *request) response(code int, reason, tag string, body []byte, extra ...Header) *sip.Response {
	res := sip.NewResponse(code, header.Clean(reason))
	for i, via := range r.m.Lines("via") {
		if i == 0 {
			via = stampVia(via, r.flow.remote)
		}
		res.AppendHeader(sip.NewHeader("Via", via))
	}
	// §12.1.1: answers that can make a dialog repeat the route.
	if r.method == "INVITE" && code > 100 && code < 300 {
		for _, rr := range r.m.Lines("record-route") {
			res.AppendHeader(sip.NewHeader("Record-Route", rr))
		}
	}
	if v, ok := r.m.Get("from"); ok {
		res.AppendHeader(sip.NewHeader("From", v))
	}
	if to, ok := r.m.Get("to"); ok {
		if tag != "" && code != 100 && r.m.Tag("to") == "" {
			to = addTag(to, tag)
		}
		res.AppendHeader(sip.NewHeader("To", to))
	}
	if v, ok := r.m.Get("call-id"); ok {
		res.AppendHeader(sip.NewHeader("Call-ID", v))
	}
	if v, ok := r.m.Get("cseq"); ok {
		res.AppendHeader(sip.NewHeader("CSeq", v))
	}
	if ts, ok := r.m.Get("timestamp"); ok && code == 100 {
		res.AppendHeader(sip.NewHeader("Timestamp", ts))
	}
	for _, h := range extra {
		if h.Value == "" || !header.IsToken(h.Name) {
			continue
		}
		res.AppendHeader(sip.NewHeader(h.Name, header.Clean(h.Value)))
	}
	if body != nil {
		res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	}
	res.SetBody(body)
	return res
}

// stampVia notes in the top Via where the request came from (RFC 3261 §18.2.1,
// RFC 3581 §4). The rest of the line stays as it is.
func stampVia(line string, from netip.AddrPort) string {
	first, rest := line, ""
	if parts := header.SplitList(line); len(parts) > 1 {
		first = parts[0]
		rest = ", " + strings.Join(parts[1:], ", ")
	}
	via, err := header.ParseVia(first)
	if err != nil {
		return line
	}
	_, rport := via.Params.Get("rport")
	host, _, err := net.SplitHostPort(via.SentBy)
	if err != nil {
		host = strings.Trim(via.SentBy, "[]")
	}
	ip, err := netip.ParseAddr(host)
	same := err == nil && ip.Unmap() == from.Addr()
	if !rport && same {
		return line
	}
	head, params, _ := strings.Cut(first, ";")
	var b strings.Builder
	b.WriteString(strings.TrimRight(head, " \t"))
	for p := range strings.SplitSeq(params, ";") {
		name, _, _ := strings.Cut(p, "=")
		name = strings.TrimSpace(name)
		switch {
		case strings.EqualFold(name, "received"), name == "":
		case strings.EqualFold(name, "rport"):
			b.WriteString(";rport=" + strconv.Itoa(int(from.Port())))
		default:
			b.WriteString(";" + p)
		}
	}
	b.WriteString(";received=" + from.Addr().String())
	return b.String() + rest
}

// addTag puts a tag behind a To value. One without angle brackets gets them:
// a parameter would otherwise do as well, but some peers read it into the URI.
func addTag(to, tag string) string {
	if !strings.Contains(to, "<") {
		if a, err := header.ParseAddress(to); err == nil {
			to = "<" + a.URI + ">"
			if a.Params != "" {
				to += ";" + string(a.Params)
			}
		}
	}
	return to + ";tag=" + tag
}

// statelessTag is the To tag of answers that no dialog comes of: the same for
// each retransmission (RFC 3261 §8.2.7), made from what identifies the request.
func (u *UA) statelessTag(r *request) string {
	h := sha256.New()
	h.Write(u.salt[:])
	branch, _ := r.via.Params.Get("branch")
	// The number alone: a CANCEL's answer has the tag of its INVITE's (§9.2).
	seq, _, _ := strings.Cut(r.m.Value("cseq"), " ")
	for _, s := range []string{r.m.Value("call-id"), r.m.Tag("from"), seq, branch} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// contact is where we can be reached about a message of that flow.
func (u *UA) contact(f *flow) Header {
	uri := "sip:" + u.hostPort(f)
	if f.transport != "udp" {
		uri += ";transport=" + f.transport
	}
	return Header{"Contact", "<" + uri + ">"}
}

func (u *UA) hostPort(f *flow) string {
	host := u.cfg.Advertise
	if host == "" {
		host = f.contact.Addr().WithZone("").String()
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(int(f.contact.Port())))
}

func errBadCode(code int) error { return fmt.Errorf("ua: %d is no code of a refusal", code) }

// class is "2xx" … "6xx".
func class(code int) string { return string('0'+rune(code/100)) + "xx" }

// fillRandom never fails: crypto/rand ends the process rather than give less.
func fillRandom(b []byte) { _, _ = rand.Read(b) }
