package ua

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// clients finds our transactions by branch and method.
type clients struct {
	mu   sync.Mutex
	open map[string]*sip.ClientTx
}

func (s *clients) add(key string, tx *sip.ClientTx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]*sip.ClientTx)
	}
	s.open[key] = tx
	tx.OnTerminate(func(string, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, key)
	})
}

func (s *clients) get(key string) *sip.ClientTx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[key]
}

func (s *clients) terminate() {
	s.mu.Lock()
	all := make([]*sip.ClientTx, 0, len(s.open))
	for _, tx := range s.open {
		all = append(all, tx)
	}
	s.mu.Unlock()
	for _, tx := range all {
		tx.Terminate()
	}
}

// arrival is a message as it came.
type arrival struct {
	raw  []byte
	flow *flow
}

// receiveResponse takes a response to a request of ours. from is nil for one
// that another instance has sent on.
func (u *UA) receiveResponse(m header.Message, scanErr error, from *arrival) {
	res, err := asResponse(m)
	if scanErr != nil || err != nil {
		u.m.dropped.WithLabelValues("malformed_response").Inc()
		return
	}
	via, err := m.Top()
	branch, _ := via.Params.Get("branch")
	_, method, ok := m.CSeq()
	if err != nil || branch == "" || !ok {
		u.m.dropped.WithLabelValues("malformed_response").Inc()
		return
	}
	tx := u.clients.get(clientKey(branch, method))
	if tx == nil {
		if from == nil || !u.sendResponseOn(branch, from) {
			u.m.dropped.WithLabelValues("stray_response").Inc()
		}
		return
	}
	// sipgo hands the response to whoever waits for it, and blocks until then.
	if !u.spawn(func() { tx.Receive(res) }) {
		u.m.dropped.WithLabelValues("overload").Inc()
	}
}

func clientKey(branch, method string) string { return branch + "\x00" + method }

// asResponse gives sipgo's transactions a response; its headers stay as sent.
func asResponse(m header.Message) (*sip.Response, error) {
	_, rest, _ := strings.Cut(m.StartLine, " ")
	num, reason, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(num)
	if err != nil || code < 100 || code > 699 {
		return nil, fmt.Errorf("ua: status line %q", m.StartLine)
	}
	res := sip.NewResponse(code, reason)
	for _, f := range m.Fields {
		if f.Key != "content-length" {
			res.AppendHeader(sip.NewHeader(f.Name, f.Value))
		}
	}
	res.SetBody(m.Body)
	return res, nil
}

// Bye ends a dialog. It returns nil once the far end has confirmed, or has said
// that there is no such dialog any more, and ErrTimeout if it says nothing for
// 64*T1. The UA forgets the leg at once. d may come from a store; the numbers of
// a dialog that this UA holds win over it.
func (u *UA) Bye(ctx context.Context, d *dialog.Dialog, headers ...Header) error {
	req := d.Next("BYE")
	if session, n, err := u.tags.Parse(d.LocalTag); err == nil {
		ref := LegRef{Session: session, Leg: n}
		if l := u.legs.get(ref); l != nil {
			l.mu.Lock()
			req = l.d.Next("BYE")
			*d = l.d
			l.mu.Unlock()
			u.legs.remove(ref)
			l.terminate()
		}
	}
	code, reason, err := u.do(ctx, req, d, headers)
	switch {
	case err != nil:
		return err
	case code < 300, code == 481, code == 408:
		return nil
	}
	// 401 and 407 are for trunks that challenge a BYE: we have no credentials for
	// a call that came in, and the dialog is over on our side in any case
	// (RFC 3261 §15.1.1).
	return &dialog.Refusal{Code: code, Reason: reason}
}

// do sends a request and waits for its final response.
func (u *UA) do(ctx context.Context, q dialog.Request, d *dialog.Dialog, headers []Header) (int, string, error) {
	if !u.work.must() {
		return 0, "", ErrClosed
	}
	defer u.work.leave()
	fl, err := u.route(ctx, q, d)
	if err != nil {
		return 0, "", err
	}
	branch := u.branch()
	tx := sip.NewClientTx(branch, u.wireRequest(q, fl, branch, headers), fl, quiet)
	u.clients.add(clientKey(branch, q.Method), tx)
	if err := tx.Init(); err != nil {
		tx.Terminate()
		return 0, "", fmt.Errorf("ua: %s: %w", q.Method, err)
	}
	for {
		select {
		case res := <-tx.Responses():
			if res.StatusCode >= 200 {
				return res.StatusCode, res.Reason, nil
			}
		case <-tx.Done():
			if err := tx.Err(); !errors.Is(err, sip.ErrTransactionTimeout) && u.life.Err() != nil {
				return 0, "", ErrClosed
			} else if !errors.Is(err, sip.ErrTransactionTimeout) {
				return 0, "", fmt.Errorf("ua: %s: %w", q.Method, err)
			}
			return 0, "", ErrTimeout
		case <-ctx.Done():
			tx.Terminate()
			return 0, "", errors.Join(ErrTimeout, ctx.Err())
		case <-u.life.Done():
			tx.Terminate()
			return 0, "", ErrClosed
		}
	}
}

// wireRequest is the message for a dialog's request.
func (u *UA) wireRequest(q dialog.Request, fl *flow, branch string, headers []Header) *sip.Request {
	req := sip.NewRequest(sip.RequestMethod(q.Method), rawURI(q.URI))
	req.AppendHeader(sip.NewHeader("Via", "SIP/2.0/"+strings.ToUpper(fl.transport)+" "+u.hostPort(fl)+";rport;branch="+branch))
	for _, hop := range q.Route {
		req.AppendHeader(sip.NewHeader("Route", "<"+header.Clean(hop)+">"))
	}
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	req.AppendHeader(sip.NewHeader("From", q.From))
	req.AppendHeader(sip.NewHeader("To", q.To))
	req.AppendHeader(sip.NewHeader("Call-ID", header.Clean(q.CallID)))
	req.AppendHeader(sip.NewHeader("CSeq", strconv.FormatUint(uint64(q.CSeq), 10)+" "+q.Method))
	if u.cfg.UserAgent != "" {
		req.AppendHeader(sip.NewHeader("User-Agent", u.cfg.UserAgent))
	}
	for _, h := range headers {
		if h.Value != "" && header.IsToken(h.Name) {
			req.AppendHeader(sip.NewHeader(h.Name, header.Clean(h.Value)))
		}
	}
	req.SetBody(nil)
	req.SetTransport(strings.ToUpper(fl.transport))
	return req
}

// rawURI wraps the text of a URI that is to be sent as it is: sipgo takes apart
// only what says sip, and does not always put it together again alike.
func rawURI(text string) sip.Uri {
	scheme, rest, _ := strings.Cut(header.Clean(text), ":")
	var uri sip.Uri
	_ = sip.ParseUri("raw:"+rest, &uri) // cannot fail for an ASCII scheme
	uri.Scheme = scheme
	return uri
}

// branch is unique, and names the instance, so that a response which a load
// balancer gives to another one can be sent on.
func (u *UA) branch() string {
	var b [15]byte
	fillRandom(b[:])
	return magicCookie + strings.ToLower(base32.StdEncoding.EncodeToString(b[:])) + "." + hex.EncodeToString([]byte(u.cfg.Instance))
}

// instanceOf is the instance that a branch names, or "".
func instanceOf(branch string) string {
	_, name, _ := strings.Cut(branch, ".")
	b, err := hex.DecodeString(name)
	if err != nil {
		return ""
	}
	return string(b)
}

// sendResponseOn gives a response to the instance that waits for it. The name
// may be a stranger's invention: Forward knows which instances there are.
func (u *UA) sendResponseOn(branch string, from *arrival) bool {
	owner := instanceOf(branch)
	if u.forward == nil || owner == "" || owner == u.cfg.Instance {
		return false
	}
	return u.spawn(func() {
		ctx, cancel := context.WithTimeout(u.life, storeWait)
		defer cancel()
		u.m.forwarded.WithLabelValues("response").Inc()
		if _, err := u.forward(ctx, owner, from.raw, from.flow.transport, from.flow.remote.String(), from.flow.local.String()); err != nil {
			u.log.Debug("response not forwarded", "instance", owner, "err", err)
		}
	})
}

// route finds the way for a request of ours (RFC 3263, as far as dialogs need
// it). A connection that the dialog's last request came over is used again,
// whatever Contact or Record-Route say: proxies put the port of their listener
// there, and a client behind a NAT cannot be dialled at all.
func (u *UA) route(ctx context.Context, q dialog.Request, d *dialog.Dialog) (*flow, error) {
	if source, err := netip.ParseAddrPort(d.Source); err == nil {
		if d.Transport != "udp" {
			if fl := u.wires.stream(source); fl != nil {
				return fl, nil
			}
		} else if len(d.RouteSet) == 0 && behindNAT(q.NextHop, source) {
			return u.flowTo(ctx, "udp", source)
		}
	}
	transport, to, err := resolve(ctx, q.NextHop, d.Transport)
	if err != nil {
		return nil, err
	}
	return u.flowTo(ctx, transport, to)
}

// behindNAT tells whether a Contact names a private address while its owner
// speaks from another one.
func behindNAT(uri string, source netip.AddrPort) bool {
	ip, err := netip.ParseAddr(dialog.SIPHost(uri))
	return err == nil && ip.Unmap() != source.Addr() && (ip.IsPrivate() || ip.IsLoopback() || ip.IsUnspecified())
}

// resolve finds address and transport of a URI (RFC 3263 §4).
func resolve(ctx context.Context, uri, transport string) (string, netip.AddrPort, error) {
	var u sip.Uri
	if err := sip.ParseUri(uri, &u); err != nil || u.Host == "" {
		return "", netip.AddrPort{}, fmt.Errorf("ua: no address in %q", uri)
	}
	_, params, _ := strings.Cut(uri, ";")
	if t, ok := header.Params(params).Get("transport"); ok {
		transport = strings.ToLower(t)
	}
	if transport == "" {
		transport = "udp"
	}
	host, port := strings.Trim(u.Host, "[]"), uint16(u.Port)
	if ip, err := netip.ParseAddr(host); err == nil {
		return transport, plain(netip.AddrPortFrom(ip, defaultPort(port, transport))), nil
	}
	if port == 0 {
		_, srv, err := net.DefaultResolver.LookupSRV(ctx, "sip", transport, host)
		if err == nil && len(srv) > 0 {
			host, port = strings.TrimSuffix(srv[0].Target, "."), srv[0].Port
		}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return "", netip.AddrPort{}, fmt.Errorf("ua: resolve %s: %w", host, err)
	}
	return transport, plain(netip.AddrPortFrom(ips[0], defaultPort(port, transport))), nil
}

func defaultPort(port uint16, transport string) uint16 {
	switch {
	case port != 0:
		return port
	case transport == "tls":
		return 5061
	}
	return 5060
}
