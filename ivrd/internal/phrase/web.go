package phrase

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/callmesh/callmesh/kit/dialguard"
)

// web fetches files by URL.
type web struct {
	// public reaches public addresses alone, private those of the inside network
	// too. They share no connections.
	public, private *http.Client
	most            int64
}

// maxRedirects within the host that was named.
const maxRedirects = 3

var errRedirect = errors.New("redirect to another host")

// Callbacks and phrases go to URLs of customers alike, and so share their guard.
func newWeb(l Limits) *web {
	return &web{most: l.FileBytes, public: client(l, dialguard.Control(false, nil)), private: client(l, dialguard.Control(true, nil))}
}

func client(l Limits, control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: l.Connect, Control: control}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // one from the environment would connect in our place, past the guard
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    l.Connect,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    8,
			MaxConnsPerHost:        32,
			IdleConnTimeout:        30 * time.Second,
			ResponseHeaderTimeout:  l.Fetch,
			MaxResponseHeaderBytes: 64 << 10,
		},
		Timeout:       l.Fetch,
		CheckRedirect: sameHost,
	}
}

func (w *web) close() {
	w.public.CloseIdleConnections()
	w.private.CloseIdleConnections()
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

func (w *web) fetch(ctx context.Context, r request, tag Tag) (Content, error) {
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
	client := w.public
	if r.allowPrivate {
		client = w.private
	}
	resp, err := client.Do(req)
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
	case errors.Is(err, ssrf.ErrProhibitedIP):
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
