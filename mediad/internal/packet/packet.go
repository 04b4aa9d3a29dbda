// Package packet holds what passes between legs and the network engine:
// datagrams in, and a reusable batch of datagrams out.
package packet

import "net/netip"

// Flow names a leg's pair of ports within one shard.
type Flow uint32

// MaxSize bounds the datagrams that a leg writes: a header, 20 ms of linear
// 16-bit audio at 8 kHz, or an RTCP compound of one report and a CNAME.
const MaxSize = 512

// Datagram is one UDP packet of a flow, received or to be sent. Received Data
// is valid until the engine's next Receive.
type Datagram struct {
	Flow Flow
	// RTCP tells the odd port from the even one.
	RTCP bool
	// Addr is the far end.
	Addr netip.AddrPort
	Data []byte
}

// Batch collects datagrams to send in memory that is allocated once.
type Batch struct {
	datagrams []Datagram
	memory    []byte
	used      int
}

// NewBatch makes room for n datagrams.
func NewBatch(n int) *Batch {
	return &Batch{datagrams: make([]Datagram, n), memory: make([]byte, n*MaxSize)}
}

// Next reserves a datagram and returns it with Data of length zero and
// capacity MaxSize for the caller to fill. It returns nil when the batch is full.
func (b *Batch) Next(flow Flow, rtcp bool, to netip.AddrPort) *Datagram {
	if b.used == len(b.datagrams) {
		return nil
	}
	start := b.used * MaxSize
	d := &b.datagrams[b.used]
	b.used++
	*d = Datagram{Flow: flow, RTCP: rtcp, Addr: to, Data: b.memory[start : start : start+MaxSize]}
	return d
}

// Datagrams reserved since the last Reset.
func (b *Batch) Datagrams() []Datagram { return b.datagrams[:b.used] }

// Room left.
func (b *Batch) Room() int { return len(b.datagrams) - b.used }

// Reset empties the batch.
func (b *Batch) Reset() { b.used = 0 }
