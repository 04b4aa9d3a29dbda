package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"code.dny.dev/ssrf"
)

// Kind is what went wrong with a callback.
type Kind string

// The ways in which a callback fails.
const (
	// InvalidURL: nothing was sent, as there is no http(s) URL.
	InvalidURL Kind = "invalid_url"
	// RefusedAddress: the host's address is private, and that is not allowed.
	RefusedAddress Kind = "refused_address"
	// Timeout: no complete answer within the time given.
	Timeout Kind = "timeout"
	// Connect: no connection, or it broke before the answer was complete.
	Connect Kind = "connect"
	// Status: an answer other than 2xx.
	Status Kind = "status"
	// TooLarge: the answer exceeds the bound.
	TooLarge Kind = "too_large"
	// Redirect: a 3xx, which is not followed.
	Redirect Kind = "redirect"
	// BreakerOpen: the host did not answer lately and was not asked.
	BreakerOpen Kind = "breaker_open"
	// Canceled: the caller gave up.
	Canceled Kind = "canceled"
)

// Error is a callback that did not succeed. Its text shows neither query nor
// credentials, so that an alarm may quote it.
type Error struct {
	Kind Kind
	Host string
	// Status is the HTTP status, if there was one.
	Status int
	err    error
}

func (e *Error) Error() string {
	switch e.Kind {
	case InvalidURL:
		return fmt.Sprintf("invalid callback URL: %v", e.err)
	case RefusedAddress:
		return fmt.Sprintf("%s has an address to which callbacks are not allowed", e.Host)
	case Timeout:
		return fmt.Sprintf("%s did not answer in time", e.Host)
	case Connect:
		return fmt.Sprintf("no connection to %s: %v", e.Host, e.err)
	case Status:
		return fmt.Sprintf("%s answered %d %v", e.Host, e.Status, e.err)
	case TooLarge:
		return fmt.Sprintf("the answer of %s is too large: %v", e.Host, e.err)
	case Redirect:
		return fmt.Sprintf("%s answered with a redirect (%d): %v", e.Host, e.Status, e.err)
	case BreakerOpen:
		return fmt.Sprintf("%s did not answer lately and is not asked for the moment", e.Host)
	case Canceled:
		return fmt.Sprintf("the callback to %s was cancelled", e.Host)
	}
	return fmt.Sprintf("callback to %s failed: %v", e.Host, e.err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// Temporary says whether a later attempt may succeed: after network errors and
// 5xx (contract §1.4), and after 408, 425 and 429, by which a server asks for one.
func (e *Error) Temporary() bool {
	switch e.Kind {
	case Timeout, Connect, BreakerOpen, Canceled:
		return true
	case Status:
		return e.Status >= 500 || e.Status == 408 || e.Status == 425 || e.Status == 429
	}
	return false
}

// failure sorts an error of net/http. Its URL, which may hold secrets, is dropped.
func failure(ctx context.Context, u *url.URL, err error) *Error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	e := &Error{Kind: Connect, Host: u.Host, err: err}
	for _, refusal := range []error{ssrf.ErrProhibitedIP, ssrf.ErrProhibitedNetwork, ssrf.ErrProhibitedPort, ssrf.ErrInvalidHostPort} {
		if errors.Is(err, refusal) {
			e.Kind = RefusedAddress
			return e
		}
	}
	var timeout net.Error
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout() {
		e.Kind = Timeout
	}
	return e
}
