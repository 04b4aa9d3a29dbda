// Package mesh is how daemons find each other: over the network in a cluster,
// over memory in the all-in-one. Daemons are handed a Mesh and cannot tell.
package mesh

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// Mesh gives a daemon its listener and the way to its peers.
type Mesh interface {
	// Listen returns the listener of the service on this instance, and the
	// address at which peers reach just this instance.
	Listen(service string) (net.Listener, string, error)
	// Dial reaches any instance of the service.
	Dial(service string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	// DialInstance reaches the instance that advertises the address.
	DialInstance(address string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
}

// Memory is a Mesh within one process. Calls still pass through grpc-go, so
// interceptors, deadlines and errors behave as they do in a cluster.
type Memory struct {
	mu    sync.Mutex
	pipes map[string]*bufconn.Listener
	// first is the address a service's Dial goes to.
	first map[string]string
}

const memoryScheme = "memory:"

func (m *Memory) pipe(address string) *bufconn.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pipes == nil {
		m.pipes = make(map[string]*bufconn.Listener)
	}
	if m.pipes[address] == nil {
		m.pipes[address] = bufconn.Listen(1 << 18)
	}
	return m.pipes[address]
}

// Listen returns the service's listener within the process.
func (m *Memory) Listen(service string) (net.Listener, string, error) {
	return m.listen(service, memoryScheme+service)
}

func (m *Memory) listen(service, address string) (net.Listener, string, error) {
	m.mu.Lock()
	if m.first == nil {
		m.first = make(map[string]string)
	}
	if m.first[service] == "" {
		m.first[service] = address
	}
	m.mu.Unlock()
	return m.pipe(address), address, nil
}

// Dial reaches the service's first listener. A peer may dial before the
// service listens.
func (m *Memory) Dial(service string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return m.dial(func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		if at := m.first[service]; at != "" {
			return at
		}
		return memoryScheme + service
	}, opts...)
}

// DialInstance reaches the listener that advertises the address.
func (m *Memory) DialInstance(address string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if !strings.HasPrefix(address, memoryScheme) {
		return nil, fmt.Errorf("mesh: %q is not an address of this process", address)
	}
	return m.dial(func() string { return address }, opts...)
}

func (m *Memory) dial(address func() string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///memory", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return m.pipe(address()).DialContext(ctx)
		}),
	)...)
}

// Named returns the mesh as one of several instances sees it: its listeners
// advertise addresses of their own. For two sessionds in one process.
func (m *Memory) Named(instance string) Mesh { return named{Memory: m, instance: instance} }

type named struct {
	*Memory
	instance string
}

func (n named) Listen(service string) (net.Listener, string, error) {
	return n.listen(service, memoryScheme+service+"#"+n.instance)
}

// Network is a Mesh of separate processes.
type Network struct {
	// ListenOn has the address to bind for each service of this process.
	ListenOn map[string]string
	// Advertise is the host under which peers reach this process; empty means
	// the host it listens on.
	Advertise string
	// Targets has the gRPC target of each service, such as dns:///mediad:9000.
	Targets map[string]string
	// Creds are the transport credentials of all connections.
	Creds grpc.DialOption
}

// roundRobin spreads calls over the addresses that the target resolves to.
const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// Listen binds the service's address. Its error names the address.
func (n Network) Listen(service string) (net.Listener, string, error) {
	bind, ok := n.ListenOn[service]
	if !ok {
		return nil, "", fmt.Errorf("mesh: no listen address for %s", service)
	}
	l, err := net.Listen("tcp", bind)
	if err != nil {
		return nil, "", fmt.Errorf("mesh: %s: %w", service, err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, "", fmt.Errorf("mesh: %s: %w", service, err)
	}
	if n.Advertise != "" {
		host = n.Advertise
	}
	return l, net.JoinHostPort(host, port), nil
}

// Dial reaches any instance of the service.
func (n Network) Dial(service string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	target, ok := n.Targets[service]
	if !ok {
		return nil, fmt.Errorf("mesh: no target for %s", service)
	}
	return grpc.NewClient(target, append(opts, n.creds(), grpc.WithDefaultServiceConfig(roundRobin))...)
}

// DialInstance reaches the instance at host:port.
func (n Network) DialInstance(address string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("mesh: instance address: %w", err)
	}
	return grpc.NewClient("passthrough:///"+address, append(opts, n.creds())...)
}

func (n Network) creds() grpc.DialOption {
	if n.Creds != nil {
		return n.Creds
	}
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}
