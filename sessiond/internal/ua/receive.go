package ua

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/sipcheck"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// request is a request under way in the UA.
type request struct {
	m        header.Message
	raw      []byte
	flow     *flow
	received time.Time
	method   string
	uri      string
	via      header.Via
	// sdp is the body, or its SDP part.
	sdp []byte
	// relayed is set when another instance received the message.
	relayed bool
}

// receive takes a message off the wire. It never blocks on anything but a
// socket's buffer: what needs a store goes on elsewhere.
func (u *UA) receive(raw []byte, fl *flow) {
	m, err := header.Scan(raw)
	if strings.HasPrefix(m.StartLine, "SIP/") {
		u.receiveResponse(m, err, &arrival{raw, fl})
		return
	}
	r, ok := u.admit(m, err, raw, fl)
	if !ok {
		return
	}
	u.m.received.WithLabelValues(methodLabel(r.method)).Inc()
	u.dispatch(r)
}

// admit checks a request, and answers or drops it if it is not to be served.
func (u *UA) admit(m header.Message, scanErr error, raw []byte, fl *flow) (*request, bool) {
	r := &request{m: m, raw: raw, flow: fl, received: time.Now()}
	v := u.verdict(&r.m, scanErr, fl.reliable(), len(raw))
	r.method, r.uri, r.sdp = v.Method, v.URI, v.SDP
	if v.Outcome == sipcheck.Drop {
		u.m.dropped.WithLabelValues(v.Label).Inc()
		return nil, false
	}
	// Drop is also what becomes of a request without a Via that can be answered.
	r.via, _ = r.m.Top()
	r.flow = r.replyFlow()
	if v.Outcome == sipcheck.Reject {
		u.m.rejected.WithLabelValues(strconv.Itoa(v.Code)).Inc()
		hs := make([]Header, len(v.Headers))
		for i, h := range v.Headers {
			hs[i] = Header(h)
		}
		// Without a transaction: nothing is kept of a message that is not served
		// (RFC 3261 §8.2.7).
		u.answer(r, v.Code, v.Reason, hs...)
		return nil, false
	}
	return r, true
}

// verdict asks the checker. Should a message ever break it, that message is
// dropped, and not the calls of everybody else with it.
func (u *UA) verdict(m *header.Message, scanErr error, stream bool, size int) (v sipcheck.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			u.log.Error("SIP validation panicked", "panic", p, "stack", string(debug.Stack()))
			v = sipcheck.Verdict{Outcome: sipcheck.Drop, Label: "panic"}
		}
	}()
	return u.checker.Request(m, scanErr, stream, size)
}

// replyFlow is where answers go: the connection, or for UDP the source address
// with the port of Via, or the source port if rport asks for it (RFC 3581 §4).
// maddr is not followed: it would make us a reflector.
func (r *request) replyFlow() *flow {
	if r.flow.reliable() {
		return r.flow
	}
	if _, ok := r.via.Params.Get("rport"); ok {
		return r.flow
	}
	port := uint16(5060)
	if _, p, err := net.SplitHostPort(r.via.SentBy); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil && n > 0 {
			port = uint16(n)
		}
	}
	if port == r.flow.remote.Port() {
		return r.flow
	}
	g := *r.flow
	g.dest = netip.AddrPortFrom(r.flow.remote.Addr(), port)
	return &g
}

// key matches a request to its transaction (RFC 3261 §17.2.3). ACK and CANCEL
// have the key of their INVITE.
func (r *request) key(method string) string {
	if method == "ACK" || method == "CANCEL" {
		method = "INVITE"
	}
	branch, _ := r.via.Params.Get("branch")
	if len(branch) > len(magicCookie) && strings.EqualFold(branch[:len(magicCookie)], magicCookie) {
		return branch + "\x00" + strings.ToLower(r.via.SentBy) + "\x00" + method
	}
	// RFC 2543: no branch to trust.
	seq, _, _ := strings.Cut(r.m.Value("cseq"), " ")
	return strings.Join([]string{r.uri, r.m.Tag("from"), r.m.Value("call-id"), seq, r.m.Value("via"), method}, "\x00")
}

const magicCookie = "z9hG4bK"

func (u *UA) dispatch(r *request) {
	t := u.txns.get(r.key(r.method))
	switch r.method {
	case "ACK":
		u.receiveAck(r, t)
		return
	case "CANCEL":
		u.receiveCancel(r, t)
		return
	}
	if t != nil {
		t.again()
		return
	}
	inDialog := r.m.Tag("to") != ""
	switch r.method {
	case "INVITE":
		if inDialog {
			u.withLeg(r, u.receiveReinvite)
		} else {
			u.receiveInvite(r)
		}
	case "BYE":
		u.withLeg(r, u.receiveBye)
	case "INFO":
		u.withLeg(r, u.receiveInfo)
	case "OPTIONS":
		if inDialog {
			u.withLeg(r, u.receiveOptions)
		} else if u.draining.Load() { // it is how a proxy asks whether to send calls
			u.answer(r, 503, "Service Unavailable", retryAfter)
		} else {
			u.answer(r, 200, "OK", allow, supportedHeader, acceptSDP)
		}
	default:
		// The checker has refused every other method.
		u.answer(r, 501, "Not Implemented", allow)
	}
}

// answer responds without a transaction.
func (u *UA) answer(r *request, code int, reason string, hs ...Header) {
	u.answerTagged(r, code, reason, u.statelessTag(r), hs...)
}

func (u *UA) answerTagged(r *request, code int, reason, tag string, hs ...Header) {
	if r.method == "ACK" {
		return
	}
	if err := r.flow.WriteMsg(r.response(code, reason, tag, nil, hs...)); err != nil && !errors.Is(err, net.ErrClosed) {
		u.log.Debug("answer not sent", "code", code, "source", r.flow.remote.String(), "err", err)
	}
}
