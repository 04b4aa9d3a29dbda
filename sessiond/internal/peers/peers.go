// Package peers is how the instances of sessiond work together: requests that
// arrive at the wrong one go to the owner by one hop, and the sessions of a
// dead one are brought in order by another.
package peers

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/registry"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Service is the name under which sessionds announce themselves.
const Service = "sessiond"

// Instances lists the live instances of a service.
type Instances interface {
	List(ctx context.Context, service string) ([]registry.Instance, error)
}

// Dialer reaches one instance.
type Dialer interface {
	Instance(address string) (*grpc.ClientConn, error)
}

// Loader reads who owns a session.
type Loader interface {
	Load(ctx context.Context, id uuid.UUID) (store.Stored, error)
}

// Peers knows the other instances.
type Peers struct {
	self      string
	instances Instances
	dialer    Dialer
	sessions  Loader

	mu        sync.Mutex
	addresses map[string]string // also of instances that have gone silent
	read      time.Time
}

// New returns the peers of the instance called self.
func New(self string, instances Instances, dialer Dialer, sessions Loader) *Peers {
	return &Peers{self: self, instances: instances, dialer: dialer, sessions: sessions, addresses: map[string]string{}}
}

// fresh is how long the list of instances is trusted.
const fresh = time.Second

// Address returns where an instance is, or was last, reached.
func (p *Peers) Address(ctx context.Context, instance string) (string, bool) {
	p.mu.Lock()
	address, ok := p.addresses[instance]
	stale := time.Since(p.read) > fresh
	p.mu.Unlock()
	if ok || !stale {
		return address, ok
	}
	p.refresh(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	address, ok = p.addresses[instance]
	return address, ok
}

func (p *Peers) refresh(ctx context.Context) {
	list, err := p.instances.List(ctx, Service)
	if err != nil {
		return // the last list stays in force
	}
	p.remember(list)
}

// remember keeps the addresses, also of those who fall silent later: they are
// asked before they count as dead.
func (p *Peers) remember(list []registry.Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = time.Now()
	for _, i := range list {
		p.addresses[i.Name] = i.Address
	}
}

// forget drops the address of an instance that is dead.
func (p *Peers) forget(instance string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.addresses, instance)
}

// Elsewhere returns a connection to the owner of the session, or nil if this
// instance owns it or nobody does.
func (p *Peers) Elsewhere(ctx context.Context, id uuid.UUID) (*grpc.ClientConn, error) {
	stored, err := p.sessions.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if stored.Owner == p.self {
		return nil, nil
	}
	address, ok := p.Address(ctx, stored.Owner)
	if !ok {
		return nil, fault.New(fault.Unavailable, "the owner of the session cannot be reached")
	}
	return p.dialer.Instance(address)
}

// Pass sends a request on to the owner of a session that is not here.
func Pass[Resp any, PResp interface {
	*Resp
	proto.Message
}](ctx context.Context, p *Peers, id uuid.UUID, method string, req proto.Message) (PResp, error) {
	conn, err := p.Elsewhere(ctx, id)
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return nil, fault.New(fault.CallEnded, "the call has ended")
	}
	resp := PResp(new(Resp))
	if err := conn.Invoke(hop(ctx), method, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// Forward hands a SIP message to another instance (ua.Forward).
func (p *Peers) Forward(ctx context.Context, instance string, raw []byte, transport, source, local string) ([]byte, error) {
	address, ok := p.Address(ctx, instance)
	if !ok {
		return nil, fault.New(fault.Unavailable, "instance %s cannot be reached", instance)
	}
	conn, err := p.dialer.Instance(address)
	if err != nil {
		return nil, err
	}
	resp, err := sessionpb.NewPeersClient(conn).Deliver(ctx, &sessionpb.DeliverRequest{
		Message: raw, Transport: transport, Source: source, Local: local, Hops: 1,
	})
	return resp.GetResponse(), err
}

// Alive asks an instance itself. A heartbeat in Redis may be missing because
// Redis was; only one that does not answer either is dead.
func (p *Peers) Alive(ctx context.Context, instance string) bool {
	address, ok := p.Address(ctx, instance)
	if !ok {
		return false
	}
	conn, err := p.dialer.Instance(address)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := sessionpb.NewPeersClient(conn).Ping(ctx, &sessionpb.PingRequest{Instance: instance})
	return err == nil && resp.GetInstance() == instance
}
