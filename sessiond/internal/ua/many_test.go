package ua

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// Calls of every sort, many at a time: afterwards nothing is left of them but
// the transactions that absorb retransmissions.
func TestManyCallsLeaveNothing(t *testing.T) {
	var r *rig
	answer := func(inv *Invitation) {
		if err := inv.Bind(t.Context(), uuid.New(), 1); err != nil {
			t.Error(err)
		}
		switch inv.Subject {
		case "refuse":
			_ = inv.Reject(486, "Busy Here")
		case "ring":
			_ = inv.Ringing()
		default:
			d, err := inv.Accept([]byte(offerSDP))
			if err == nil && inv.Subject == "hang up" {
				go func() { r.invites <- inv; _ = r.ua.Bye(t.Context(), &d) }()
			}
		}
	}
	r = start(t, slow, func(_ *Config, d *Deps) { d.Calls.(*control).onInvite = answer })
	const calls = 25
	var phones []*phone
	for n := range 8 {
		p := dial(t, r.ua, []string{"udp", "tcp"}[n%2])
		p.silent() // the UA's end is there
		phones = append(phones, p)
	}
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for n, p := range phones {
		all.Go(func() {
			for c := range calls {
				p.callID = fmt.Sprintf("%s-%d", p.local, c)
				inv := p.invite(offerSDP)
				what := []string{"refuse", "ring", "answer", "hang up"}[c%4]
				inv.headers = []string{"Subject: " + what}
				inv.from += fmt.Sprint(n, "-", c)
				p.send(inv)
				switch what {
				case "refuse":
					p.ack(inv, p.expect(486))
				case "ring":
					p.expect(180)
					cancel := *inv
					cancel.method, cancel.body = "CANCEL", ""
					p.send(&cancel)
					p.expect(200)
					p.ack(inv, p.expect(487))
				case "answer":
					ok := p.expect(200)
					p.send(p.within("ACK", inv, ok))
					p.send(p.within("BYE", inv, ok))
					p.expect(200)
				case "hang up":
					ok := p.expect(200)
					p.send(p.within("ACK", inv, ok))
					p.reply(p.expectRequest("BYE"), "200 OK")
				}
			}
		})
	}
	all.Wait()
	eventually(t, func() error {
		r.ua.clients.mu.Lock()
		open := len(r.ua.clients.open)
		r.ua.clients.mu.Unlock()
		if n, e := r.ua.legs.size(), r.ua.ringing.size(); n+e > 0 {
			return fmt.Errorf("%d dialogs and %d early ones are left", n, e)
		}
		// Client transactions stay for timer K on UDP, without a goroutine.
		if open > len(phones)*calls/4 {
			return fmt.Errorf("%d client transactions", open)
		}
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
	if n := r.counter("callmesh_sip_invites_total", "2xx"); n != float64(len(phones)*12) {
		t.Errorf("%v answered", n)
	}
}
