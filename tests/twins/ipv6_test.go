package twins

import (
	"testing"

	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

func TestACallOverIPv6(t *testing.T) {
	tw := start(t)
	tw.app.Script("newCall", sink.IVR())
	tw.app.Script("getIvrCommand", waitForKey(), sink.Hangup())
	p, err := phone.New(phone.Config{Host: "::1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := p.Dial("sip:1000@"+tw.sixth, phone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answered(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := c.Audio.Remote().Addr(); !got.Is6() || got.Is4In6() {
		t.Errorf("media at %s, want IPv6", got)
	}
	if _, err := tw.app.Await(within(t), 1, sink.Of("getIvrCommand")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Audio.Press(within(t), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ended(within(t)); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "hangup")
}
