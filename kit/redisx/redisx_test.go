package redisx_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/kit/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEmbeddedIsSharedByName(t *testing.T) {
	a, closeA, err := redisx.Open(t.Context(), "embedded:"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	b, closeB, err := redisx.Open(t.Context(), "embedded:"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	other, closeOther, err := redisx.Open(t.Context(), "embedded:"+t.Name()+"2")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := b.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("the second client of the name sees %q, %v", v, err)
	}
	if n := other.Exists(t.Context(), "k").Val(); n != 0 {
		t.Error("another name shares the server")
	}
	for _, c := range []func() error{closeA, closeA, closeOther} { // closing twice is once
		if err := c(); err != nil {
			t.Error(err)
		}
	}
	if v := b.Get(t.Context(), "k").Val(); v != "v" {
		t.Error("the server ended with its first client")
	}
	if err := closeB(); err != nil {
		t.Error(err)
	}
	c, closeC, err := redisx.Open(t.Context(), "embedded:"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeC() }()
	if n := c.Exists(t.Context(), "k").Val(); n != 0 {
		t.Error("the server outlived its last client")
	}
}

func TestEmbeddedExpires(t *testing.T) {
	rdb, closer, err := redisx.Open(t.Context(), "embedded:"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer() }()
	if err := rdb.Set(t.Context(), "k", "v", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(5 * time.Second)
	for rdb.Exists(t.Context(), "k").Val() != 0 {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("a key of 50 ms is still there after 5 s")
		}
	}
}

func TestEmbeddedTakesLongPipelines(t *testing.T) {
	rdb, closer, err := redisx.Open(t.Context(), "embedded:"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer() }()
	value := strings.Repeat("x", 10_000)
	replies, err := rdb.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for range 200 {
			pipe.Set(t.Context(), "k", value, 0)
			pipe.Get(t.Context(), "k")
		}
		return nil
	})
	if err != nil || len(replies) != 400 {
		t.Fatalf("%d replies, %v", len(replies), err)
	}
	if got := replies[399].(*redis.StringCmd).Val(); got != value {
		t.Errorf("the last reply has %d bytes", len(got))
	}
}

func TestOpenRealServers(t *testing.T) {
	single := redistest.Start(t)
	cluster := redistest.StartCluster(t)
	for name, url := range map[string]string{
		"socket":  "unix://" + single.Socket(),
		"cluster": "redis+cluster://" + strings.Join(cluster.Addrs(), ","),
	} {
		t.Run(name, func(t *testing.T) {
			rdb, closer, err := redisx.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = closer() }()
			for _, key := range []string{"{p1}", "{p2}", "{p3}", "{p4}"} {
				if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestErrorsNameTheURLWithoutPassword(t *testing.T) {
	tests := map[string]string{ // URL: what the error must say
		"redis://:hunter2@127.0.0.1:1/0":                    "127.0.0.1:1",
		"redis://user:hunter2@127.0.0.1:1/x":                "database number",
		"redis://user:hunter2@h:1,h:2":                      "redis+cluster",
		"redis+cluster://user:hunter2@h1:1,h2:2/3":          "no numbered databases",
		"redis+sentinel://user:hunter2@h1:1":                "master",
		"redis+ring://user:hunter2@h1":                      "+cluster",
		"http://user:hunter2@h":                             "unknown scheme",
		"user:hunter2@h:1":                                  "no scheme",
		"redis://user:hunter2@127.0.0.1:1/0?nonsense=1":     "nonsense",
		"redis+cluster://user:hunter2@,h2:1":                "empty host",
		"redis+sentinel://u:hunter2@h?master=m&addr=broken": "addr",
		"redis://user:hunt/er2@127.0.0.1:1":                 "redis URL",
		"redis+sentinel://h?sentinel_password=hunter2":      "master",
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for url, want := range tests {
		_, _, err := redisx.Open(ctx, url)
		if err == nil {
			t.Errorf("%s was opened", url)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", url, err, want)
		}
		for _, secret := range []string{"hunter2", "er2"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the password: %v", err)
			}
		}
	}
}

func TestAServerThatHangsIsGivenUp(t *testing.T) {
	server := redistest.Start(t)
	rdb, closer, err := redisx.Open(t.Context(), "unix://"+server.Socket()+"?read_timeout=100ms")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer() }()
	server.Pause()
	start := time.Now()
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err == nil {
		t.Fatal("a paused server answered")
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the answer was awaited for %s", took)
	}
	server.Resume()
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}
