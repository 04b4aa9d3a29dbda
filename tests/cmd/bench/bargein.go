package main

import (
	"context"
	"fmt"
	"time"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// bargeInCalls is how many calls are measured, one after the other.
const bargeInCalls = 50

// bargeIn measures how long a prompt goes on after the first packet of the digit
// that cuts it: from sending that packet to the last audible packet heard.
func (b *bed) bargeIn(ctx context.Context) error {
	b.app.Script("getIvrCommand", command(longPrompt, sink.Object{"bargeIn": "all", "dtmf": sink.Object{"maxDigits": 1}}), sink.Hangup())
	var cuts []float32
	for range bargeInCalls {
		cut, err := b.cut(ctx)
		if err != nil {
			return err
		}
		cuts = append(cuts, float32(cut.Seconds()*1000))
	}
	fmt.Println("\nBarge-in: from the digit's first packet to the last sound")
	fmt.Println("| calls | p50 ms | p99 ms |")
	fmt.Println("|---|---|---|")
	fmt.Printf("| %d | %.1f | %.1f |\n", len(cuts), quantile(cuts, 0.5), quantile(cuts, 0.99))
	return nil
}

func (b *bed) cut(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, err := phone.New(phone.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Close() }() // its line is not needed any more
	c, err := p.Dial("sip:1000@"+b.sip, phone.Options{})
	if err != nil {
		return 0, err
	}
	if err := c.Answered(ctx); err != nil {
		return 0, err
	}
	if err := c.Audio.Hear(ctx, 440); err != nil {
		return 0, err
	}
	pressed, err := c.Audio.Press(ctx, "1")
	if err != nil {
		return 0, err
	}
	if _, err := c.Ended(ctx); err != nil {
		return 0, err
	}
	return c.Audio.LastLoud().Sub(pressed), nil
}
