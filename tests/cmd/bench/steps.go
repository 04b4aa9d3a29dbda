package main

import (
	"context"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmesh/callmesh/tests/sink"
)

//go:embed caller.xml
var scenario string

// load is one run of SIPp.
type load struct {
	rate, calls int
	receiver    *receiver
}

// result is what SIPp counted.
type result struct {
	successful, failed, retransmissions int
	took                                time.Duration
}

func (b *bed) sipp(ctx context.Context, l load) (result, error) {
	file := filepath.Join(b.dir, "caller.xml")
	text := strings.ReplaceAll(scenario, "SINKPORT", strconv.Itoa(l.receiver.port()))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return result{}, err
	}
	stats := filepath.Join(b.dir, "stats.csv")
	_ = os.Remove(stats) // of the run before
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", "sipp", b.sip, "-sf", file, "-s", "1000", "-i", "127.0.0.1",
		"-r", strconv.Itoa(l.rate), "-m", strconv.Itoa(l.calls), "-l", "100000", "-nostdin", "-trace_stat", "-stf", stats, "-fd", "1", "-timeout", "120s")
	cmd.Dir = b.dir
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	res, statErr := read(stats)
	if statErr != nil {
		return res, fmt.Errorf("sipp: %w\n%s", errors.Join(statErr, err), out)
	}
	res.took = took
	return res, nil
}

// read takes the last line of SIPp's statistics.
func read(file string) (result, error) {
	f, err := os.Open(file)
	if err != nil {
		return result{}, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.FieldsPerRecord = ';', -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 2 {
		return result{}, fmt.Errorf("statistics of %d lines: %w", len(rows), err)
	}
	column := func(name string) int {
		i := slices.Index(rows[0], name)
		if i < 0 {
			return 0
		}
		n, _ := strconv.Atoi(rows[len(rows)-1][i]) // SIPp writes numbers there
		return n
	}
	return result{successful: column("SuccessfulCall(C)"), failed: column("FailedCall(C)"), retransmissions: column("Retransmissions(C)")}, nil
}

func command(prompt string, more sink.Object) sink.Answer {
	o := sink.Object{"phrases": []any{sink.File(prompt)}}
	for k, v := range more {
		o[k] = v
	}
	return sink.JSON(o)
}

// calls measures whole IVR calls: INVITE, newCall, 200, getIvrCommand, a prompt
// of 3 s, BYE, sessionCompleted.
func (b *bed) calls(ctx context.Context, rates string, length time.Duration) error {
	list, err := numbers(rates)
	if err != nil {
		return err
	}
	r, err := listen()
	if err != nil {
		return err
	}
	defer r.close()
	b.app.Script("getIvrCommand", command(shortPrompt, sink.Object{"hangup": true}))
	fmt.Println("\nIVR call: answer, 3 s prompt, BYE")
	fmt.Println("| calls/s | calls | failed | retransmissions | CPU ms/call | core % | redis ms/call | packets/call | gap p99 ms | RSS MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for _, rate := range list {
		r.reset()
		calls := rate * int(length/time.Second)
		before, err := used(b.callmesh.Process.Pid)
		if err != nil {
			return err
		}
		store, _ := used(b.redis.Process.Pid)
		res, err := b.sipp(ctx, load{rate: rate, calls: calls, receiver: r})
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil { // the last sessionCompleted
			return err
		}
		after, err := used(b.callmesh.Process.Pid)
		if err != nil {
			return err
		}
		storeAfter, _ := used(b.redis.Process.Pid)
		h := r.heard(1)
		cpu := (after.cpu - before.cpu).Seconds() * 1000
		fmt.Printf("| %d | %d | %d | %d | %.2f | %.0f | %.2f | %.1f | %.1f | %d |\n", rate, res.successful, res.failed, res.retransmissions,
			cpu/float64(calls), cpu/10/res.took.Seconds(), (storeAfter.cpu-store.cpu).Seconds()*1000/float64(calls),
			float64(h.packets)/float64(max(res.successful, 1)), h.p99, after.rss>>20)
		if res.failed > 0 {
			fmt.Println(b.complaints())
		}
	}
	return nil
}

// prompts measures how many prompts play at once at full rate.
func (b *bed) prompts(ctx context.Context, streams string, length time.Duration) error {
	list, err := numbers(streams)
	if err != nil {
		return err
	}
	fmt.Println("\nConcurrent prompts, PCMU, 50 packets/s each")
	fmt.Println("| streams | at full rate | core % | CPU µs/packet | gap p99 / max ms | RSS MB |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, n := range list {
		if err := b.concurrent(ctx, n, length); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) concurrent(ctx context.Context, n int, length time.Duration) error {
	r, err := listen()
	if err != nil {
		return err
	}
	defer r.close()
	// Long enough for all to be up, measured, and then ended by the prompt.
	settle := time.Duration(n/250+2) * time.Second
	b.app.Script("getIvrCommand", command(longPrompt, sink.Object{"getIVRCommandAfter": 0}), command(shortPrompt, sink.Object{"hangup": true}))
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.sipp(running, load{rate: 250, calls: n, receiver: r})
		done <- err
	}()
	if err := pause(ctx, settle); err != nil {
		return err
	}
	r.reset()
	before, err := used(b.callmesh.Process.Pid)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, length); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := used(b.callmesh.Process.Pid)
	if err != nil {
		return err
	}
	h := r.heard(int(took.Seconds() * 50))
	cpu := (after.cpu - before.cpu).Seconds()
	fmt.Printf("| %d | %d | %.0f | %.2f | %.1f / %.1f | %d |\n", n, h.atRate, cpu*100/took.Seconds(), cpu*1e6/float64(max(h.packets, 1)), h.p99, h.max, after.rss>>20)
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return err
}

// gets measures reading a session that is live, over HTTP.
func (b *bed) gets(ctx context.Context, length time.Duration) error {
	r, err := listen()
	if err != nil {
		return err
	}
	defer r.close()
	b.app.Script("getIvrCommand", command(longPrompt, sink.Object{"hangup": true}))
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	before := len(b.app.All(sink.Of("getIvrCommand")))
	go func() { _, _ = b.sipp(running, load{rate: 1, calls: 1, receiver: r}) }() // ended by cancel
	asked, err := b.app.Await(ctx, before+1, sink.Of("getIvrCommand"))
	if err != nil {
		return err
	}
	url := b.rest + "/calls/" + domain + "/sessions/" + strings.ReplaceAll(asked.Session(), "-", "")
	var count atomic.Int64
	var wg sync.WaitGroup
	times := make([][]float32, 32)
	begun, err := used(b.callmesh.Process.Pid)
	if err != nil {
		return err
	}
	until := time.Now().Add(length)
	var failed atomic.Pointer[error]
	for i := range times {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			for time.Now().Before(until) && ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					failed.Store(&err)
					return
				}
				begin := time.Now()
				if err := b.do(req, client); err != nil {
					failed.Store(&err)
					return
				}
				times[i] = append(times[i], float32(time.Since(begin).Seconds()*1000))
				count.Add(1)
			}
			client.CloseIdleConnections()
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	after, err := used(b.callmesh.Process.Pid)
	if err != nil {
		return err
	}
	n := float64(count.Load())
	spent := slices.Concat(times...)
	fmt.Println("\nGET /calls/{domain}/sessions/{token}, live session, 32 connections")
	fmt.Println("| GETs/s | CPU µs/GET | p50 / p99 ms |")
	fmt.Println("|---|---|---|")
	fmt.Printf("| %.0f | %.0f | %.2f / %.2f |\n", n/length.Seconds(), (after.cpu-begun.cpu).Seconds()*1e6/n, quantile(spent, 0.5), quantile(spent, 0.99))
	return nil
}
