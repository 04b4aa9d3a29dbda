package ua

import (
	"net"
	"testing"
)

func TestOneSourceGetsAShareOfTheTransactions(t *testing.T) {
	r := start(t, slow, func(c *Config, _ *Deps) { c.MaxTransactions = 8 })
	p := dial(t, r.ua, "udp")
	_, inv, ok := talking(t, r, p)
	for range 3 {
		another := dial(t, r.ua, "udp")
		another.send(another.invite(offerSDP))
		another.expect(100)
	}
	refused := dial(t, r.ua, "udp")
	refused.send(refused.invite(offerSDP)) // half of eight are there
	if m := refused.expect(503); m.Value("retry-after") == "" {
		t.Errorf("%v", m.Fields)
	}
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := d.DialContext(t.Context(), "udp", r.ua.Addr("udp").String())
	if err != nil {
		t.Fatal(err)
	}
	stranger := phoneOn(t, conn, "udp")
	stranger.send(stranger.invite(offerSDP))
	stranger.expect(100)

	for _, code := range []int{200, 200, 503} { // six are there
		p.send(p.within("OPTIONS", inv, ok))
		if m := p.expect(code); code == 503 && m.Value("retry-after") == "" {
			t.Errorf("%v", m.Fields)
		}
	}
	r.ua.txns.terminate()
	if n := r.ua.txns.ofSource(r.ua.Addr("udp").Addr()); n != 0 {
		t.Errorf("%d transactions are counted after their end", n)
	}
}
