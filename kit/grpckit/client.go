package grpckit

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
)

// Dialer opens connections to other daemons in the name of this one. It keeps
// one connection for each service and instance; Close ends them all.
type Dialer struct {
	mesh    mesh.Mesh
	signer  *principal.Signer
	service string

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
	token string
	until time.Time
}

// defaultDeadline bounds a call whose caller set none: no RPC leaves without.
const defaultDeadline = 5 * time.Second

const tokenLife = 5 * time.Minute

// NewDialer returns a dialer for the daemon called service.
func NewDialer(m mesh.Mesh, signer *principal.Signer, service string) *Dialer {
	return &Dialer{mesh: m, signer: signer, service: service, conns: map[string]*grpc.ClientConn{}}
}

// Service returns a connection that reaches any instance of the service.
func (d *Dialer) Service(name string) (*grpc.ClientConn, error) {
	return d.conn("service:"+name, func(opts []grpc.DialOption) (*grpc.ClientConn, error) { return d.mesh.Dial(name, opts...) })
}

// Instance returns a connection to the instance at the address.
func (d *Dialer) Instance(address string) (*grpc.ClientConn, error) {
	return d.conn("at:"+address, func(opts []grpc.DialOption) (*grpc.ClientConn, error) {
		return d.mesh.DialInstance(address, opts...)
	})
}

// Forget closes the connection to an instance that is gone.
func (d *Dialer) Forget(address string) {
	d.mu.Lock()
	c := d.conns["at:"+address]
	delete(d.conns, "at:"+address)
	d.mu.Unlock()
	if c != nil {
		_ = c.Close() // nothing is in flight that could still be answered
	}
}

// Close ends all connections.
func (d *Dialer) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, c := range d.conns {
		errs = append(errs, c.Close())
	}
	d.conns = map[string]*grpc.ClientConn{}
	return errors.Join(errs...)
}

func (d *Dialer) conn(key string, dial func([]grpc.DialOption) (*grpc.ClientConn, error)) (*grpc.ClientConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.conns[key]; c != nil {
		return c, nil
	}
	c, err := dial([]grpc.DialOption{
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUnaryInterceptor(d.unary),
		grpc.WithStreamInterceptor(d.stream),
	})
	if err != nil {
		return nil, err
	}
	d.conns[key] = c
	return c, nil
}

func (d *Dialer) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, err := d.sign(ctx)
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDeadline)
		defer cancel()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (d *Dialer) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := d.sign(ctx)
	if err != nil {
		return nil, err
	}
	return open(ctx, desc, cc, method, opts...)
}

// sign attaches the principal: the one set by principal.As, or the daemon's own.
func (d *Dialer) sign(ctx context.Context) (context.Context, error) {
	if p, ok := principal.Outgoing(ctx); ok {
		token, err := d.signer.Sign(p, time.Minute)
		if err != nil {
			return nil, err
		}
		return metadata.AppendToOutgoingContext(ctx, tokenHeader, token), nil
	}
	token, err := d.ownToken()
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, tokenHeader, token), nil
}

func (d *Dialer) ownToken() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.until) {
		return d.token, nil
	}
	token, err := d.signer.Sign(principal.Principal{Subject: d.service, Service: d.service}, tokenLife)
	if err != nil {
		return "", err
	}
	d.token, d.until = token, time.Now().Add(tokenLife/2)
	return token, nil
}
