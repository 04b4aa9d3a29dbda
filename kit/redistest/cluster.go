package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/redisx"
)

const (
	masters = 3
	slots   = 16384
	// attempts bounds how often a cluster is started anew because another process
	// took one of its ports between our look and redis-server's bind.
	attempts = 5
)

// Cluster is a Redis Cluster of three masters on this machine.
type Cluster struct {
	nodes  []*node
	client *redis.ClusterClient
}

type node struct {
	dir     string
	port    int
	bus     int
	process *exec.Cmd
	client  *redis.Client
	id      string
}

func (n *node) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

func (n *node) end() {
	_ = n.client.Close()
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}

// StartCluster runs three redis-servers joined to a cluster, each with a third
// of the slots, and ends them with the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	var lost error
	for range attempts {
		nodes, err := startNodes(t)
		if err != nil {
			lost = err
			continue
		}
		c := &Cluster{nodes: nodes}
		t.Cleanup(c.end)
		c.join(t)
		c.client = redis.NewClusterClient(c.options())
		await(t, "the cluster's client found no masters", func(ctx context.Context) error {
			return c.client.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error { return m.Ping(ctx).Err() })
		})
		return c
	}
	t.Fatalf("redistest: no cluster after %d attempts: %v", attempts, lost)
	return nil
}

// Addrs are the masters' addresses.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr())
	}
	return addrs
}

// URL opens the cluster with redisx.Open.
func (c *Cluster) URL() string { return "redis+cluster://" + strings.Join(c.Addrs(), ",") }

// Client returns a client that is closed with the test.
func (c *Cluster) Client() *redis.ClusterClient { return c.client }

func (c *Cluster) options() *redis.ClusterOptions {
	one := redisx.Tune(&redis.Options{})
	return &redis.ClusterOptions{
		Addrs:                    c.Addrs(),
		DialTimeout:              one.DialTimeout,
		ReadTimeout:              one.ReadTimeout,
		WriteTimeout:             one.WriteTimeout,
		PoolTimeout:              one.PoolTimeout,
		MaxRetries:               one.MaxRetries,
		DisableIdentity:          true,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: one.MaintNotificationsConfig,
	}
}

func (c *Cluster) end() {
	if c.client != nil {
		_ = c.client.Close()
	}
	for _, n := range c.nodes {
		n.end()
	}
}

// startNodes starts the servers, or returns an error where one of them lost its
// port to somebody else.
func startNodes(t testing.TB) ([]*node, error) {
	t.Helper()
	ports := freePorts(t, 2*masters)
	var nodes []*node
	for i := range masters {
		n := &node{dir: folder(t), port: ports[2*i], bus: ports[2*i+1]}
		n.process = spawn(t, n.dir, []string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(n.port),
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(n.bus),
			"--cluster-config-file", filepath.Join(n.dir, "nodes"),
			"--cluster-node-timeout", "5000",
			"--save", "", "--dir", n.dir, "--loglevel", "warning",
		})
		n.client = redis.NewClient(redisx.Tune(&redis.Options{Addr: n.addr()}))
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if err := n.await(); err != nil {
			for _, n := range nodes {
				n.end()
			}
			return nil, err
		}
	}
	return nodes, nil
}

// await waits until the process that answers at the node's port is the one that
// was started: a stranger's Redis may have taken the port.
func (n *node) await() error {
	return poll(func(ctx context.Context) error {
		info, err := n.client.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("process_id:%d\r\n", n.process.Process.Pid); !strings.Contains(info, want) {
			return errors.New("another Redis has this port")
		}
		n.id, err = n.client.Do(ctx, "CLUSTER", "MYID").Text()
		return err
	})
}

// join hands out the slots and introduces the nodes to one another.
func (c *Cluster) join(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	for i, n := range c.nodes {
		from, to := i*slots/masters, (i+1)*slots/masters-1
		if err := n.client.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
			t.Fatalf("redistest: slots %d-%d: %v", from, to, err)
		}
		if err := n.client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatalf("redistest: epoch: %v", err)
		}
	}
	for _, other := range c.nodes[1:] {
		if err := c.nodes[0].client.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", other.port, other.bus).Err(); err != nil {
			t.Fatalf("redistest: meet: %v", err)
		}
	}
	for _, n := range c.nodes {
		await(t, "the cluster did not form", func(ctx context.Context) error {
			info, err := n.client.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_size:%d", masters)) {
				return errors.New("not all slots are served yet")
			}
			return nil
		})
	}
}

// freePorts returns ports that nobody uses at this moment. They are held all at
// once, so that they differ; who loses one later starts over.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
