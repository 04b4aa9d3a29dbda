package phrase

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
)

// web fetches files by URL.
type web struct {
	client *http.Client
	most   int64
}

// maxRedirects within the host that was named.
const maxRedirects = 3

var (
	errPrivate  = errors.New("address is not public")
	errRedirect = errors.New("redirect to another host")
)

type privateKey struct{}

func newWeb(l Limits) *web {
	transport := &http.Transport{
		// No proxy from the environment: it would resolve names out of sight of the
		// address check.
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			private, _ := ctx.Value(privateKey{}).(bool)
			d := net.Dialer{Timeout: l.Connect, Control: func(_, address string, _ syscall.RawConn) error {
				if private {
					return nil
				}
				return public(address)
			}}
			return d.DialContext(ctx, network, address)
		},
		// A kept connection to a private address must not serve a domain that may not
		// reach one.
		DisableKeepAlives:      true,
		TLSHandshakeTimeout:    l.Connect,
		ResponseHeaderTimeout:  l.Fetch,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &web{most: l.FileBytes, client: &http.Client{Transport: transport, Timeout: l.Fetch, CheckRedirect: sameHost}}
}

func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if next.URL.Host != via[0].URL.Host {
		return errRedirect
	}
	return nil
}

// carrierNAT and translated are not public, though netip calls neither private.
var (
	carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	thisHost   = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122 §3.2.1.3
	reserved   = netip.MustParsePrefix("240.0.0.0/4")   // RFC 1112 §4, and broadcast
	benchmark  = netip.MustParsePrefix("198.18.0.0/15") // RFC 2544
	translated = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052: holds an IPv4 address
	sixToFour  = netip.MustParsePrefix("2002::/16")     // RFC 3056: holds an IPv4 address
)

// public checks the address that is about to be connected to, after name
// resolution: a name may resolve to anything.
func public(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errPrivate, err)
	}
	a := ap.Addr().Unmap()
	for _, p := range []netip.Prefix{carrierNAT, thisHost, reserved, benchmark, translated, sixToFour} {
		if p.Contains(a) {
			return errPrivate
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return errPrivate
	}
	return nil
}

func (w *web) fetch(ctx context.Context, r request, tag Tag) (Content, error) {
	ctx = context.WithValue(ctx, privateKey{}, r.allowPrivate)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.name, nil)
	if err != nil {
		return Content{}, &Problem{Reason: "the URL is malformed", cause: withoutURL(err)}
	}
	req.Header.Set("User-Agent", "callmesh")
	req.Header.Set("Accept", "audio/*, application/octet-stream")
	if tag.ETag != "" {
		req.Header.Set("If-None-Match", tag.ETag)
	}
	if tag.LastModified != "" {
		req.Header.Set("If-Modified-Since", tag.LastModified)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return Content{}, webProblem(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return Content{}, errNotModified
	case resp.StatusCode >= 500:
		return Content{}, &Problem{Reason: fmt.Sprintf("the URL answered with status %d", resp.StatusCode), Passing: true}
	case resp.StatusCode != http.StatusOK:
		return Content{}, &Problem{Reason: fmt.Sprintf("the URL answered with status %d", resp.StatusCode)}
	case resp.ContentLength > w.most:
		return Content{}, tooLarge(w.most)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, w.most+1))
	switch {
	case err != nil:
		return Content{}, webProblem(err)
	case int64(len(data)) > w.most:
		return Content{}, tooLarge(w.most)
	}
	return Content{
		Data: data, Name: req.URL.Path, Type: resp.Header.Get("Content-Type"),
		Tag: Tag{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")},
	}, nil
}

func webProblem(err error) error {
	err = withoutURL(err)
	switch {
	case errors.Is(err, errPrivate):
		return &Problem{Reason: "the URL leads to a private address, which the domain does not allow", cause: err}
	case errors.Is(err, errRedirect):
		return &Problem{Reason: "the URL redirects to another host", cause: err}
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return &Problem{Reason: "the URL did not answer in time", Timeout: true, Passing: true, cause: err}
	}
	return &Problem{Reason: "the URL could not be fetched", Passing: true, cause: err}
}

// withoutURL drops the URL that net/http puts into its errors: its query may
// hold a signature.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// withoutSecrets is a URL as logs and alarms may show it.
func withoutSecrets(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
