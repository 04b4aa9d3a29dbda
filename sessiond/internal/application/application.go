// Package application sends callbacks to customers' applications: questions
// for call control, and notifications for the lanes.
package application

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/webhook"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	"github.com/callmesh/callmesh/sessiond/internal/control"
	"github.com/callmesh/callmesh/sessiond/internal/directory"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
)

// Opener decrypts stored secrets.
type Opener interface {
	Open(sealed []byte, context string) ([]byte, error)
}

// Poster posts a callback.
type Poster interface {
	Post(ctx context.Context, r webhook.Request) (*webhook.Response, error)
}

// Domains finds a domain by its name.
type Domains interface {
	Domain(name string) (*directorypb.Domain, bool)
}

// Waiter lets a question wait for earlier notifications of its lane.
type Waiter interface {
	Wait(ctx context.Context, session uuid.UUID, target string, limit time.Duration) bool
}

// Client talks to applications.
type Client struct {
	post    Poster
	keys    Opener
	domains Domains
	lanes   Waiter
}

var _ control.Application = (*Client)(nil)

// New returns a client.
func New(post Poster, keys Opener, domains Domains, lanes Waiter) *Client {
	return &Client{post: post, keys: keys, domains: domains, lanes: lanes}
}

const (
	// defaultTimeout is the contract's for questions (§1.4).
	defaultTimeout = 5 * time.Second
	// waitAtMost is how long a question waits for undelivered notifications.
	waitAtMost = 2 * time.Second
)

// The fields of an APPLICATION_FAILED fault, which tell ivrd how to word its
// alarm.
const (
	FieldRequest = "request"
	FieldStatus  = "status"
	FieldEmpty   = "empty"
)

// Ask puts a question to the domain's application and returns its answer.
func (c *Client) Ask(ctx context.Context, d *directorypb.Domain, q control.Question) ([]byte, error) {
	app := d.GetApplication()
	if app.GetUrl() == "" {
		return nil, fault.New(fault.ApplicationFailed, "domain %s has no application URL", d.GetName()).On(FieldRequest)
	}
	// Whatever keeps the lane busy: a question overtakes it after that time.
	c.lanes.Wait(ctx, q.Session, app.GetUrl(), waitAtMost)
	r, err := c.request(d, q.Name, q.Transaction, app.GetUrl()+"/"+q.Name, q.Body)
	if err != nil {
		return nil, err
	}
	r.Timeout = defaultTimeout
	if ms := app.GetQuestionTimeoutMs(); ms > 0 {
		r.Timeout = time.Duration(ms) * time.Millisecond
	}
	resp, err := c.post.Post(ctx, r)
	if err != nil {
		return nil, failed(err)
	}
	return resp.Body, nil
}

// Send makes one attempt at a notification. The domain is looked up anew each
// time, as its credentials may have changed since the first attempt.
func (c *Client) Send(ctx context.Context, e lane.Delivery) error {
	d, ok := c.domains.Domain(e.Domain)
	if !ok {
		return lane.Permanent(fmt.Errorf("domain %s does not exist any more", e.Domain))
	}
	r, err := c.request(d, string(e.Kind), e.ID, e.URL, e.Body)
	if err != nil {
		return err
	}
	_, err = c.post.Post(ctx, r)
	failure, ok := errors.AsType[*webhook.Error](err)
	switch {
	case ok && failure.Kind == webhook.TooLarge:
		return nil // it was accepted, at more length than we read
	case ok && !failure.Temporary() && !lasting(failure):
		return lane.Permanent(err)
	}
	return err
}

// lasting are failures that an operator may mend within the days for which what
// must arrive is tried: a wrong credential, a route that is not deployed, an
// address that is not allowed yet.
func lasting(e *webhook.Error) bool {
	switch e.Kind {
	case webhook.Status, webhook.Redirect, webhook.RefusedAddress:
		return true
	}
	return false
}

func (c *Client) request(d *directorypb.Domain, name, id, url string, body []byte) (webhook.Request, error) {
	app := d.GetApplication()
	r := webhook.Request{Name: name, ID: id, URL: url, Body: body, AllowPrivate: app.GetAllowPrivate()}
	secret, err := c.open(app.GetAuthSecret(), directory.AuthContext(d.GetName()))
	if err != nil {
		return r, err
	}
	if r.SigningKey, err = c.open(app.GetSigningKey(), directory.SigningContext(d.GetName())); err != nil {
		return r, err
	}
	switch app.GetAuthScheme() {
	case "basic":
		r.Auth = webhook.Auth{User: app.GetAuthUser(), Password: string(secret)}
	case "bearer":
		r.Auth = webhook.Auth{Bearer: string(secret)}
	}
	return r, nil
}

func (c *Client) open(sealed []byte, context string) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	return c.keys.Open(sealed, context)
}

// failed words a callback's failure for the customer's alarm.
func failed(err error) error {
	field := FieldRequest
	e, ok := errors.AsType[*webhook.Error](err)
	if !ok {
		return fault.New(fault.Internal, "internal error").Because(err)
	}
	if e.Kind == webhook.Status {
		field = FieldStatus
	}
	return fault.New(fault.ApplicationFailed, "%s", e.Error()).On(field).Because(err)
}
