package twins

import (
	"bytes"
	"testing"

	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"

	"github.com/callmesh/callmesh/kit/principal"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// Phones send Latin-1 where RFC 3261 wants UTF-8: the call must go through, and
// above all it must be able to end.
func TestTextThatIsNotUTF8(t *testing.T) {
	tw := start(t)
	tw.app.Script("newCall", sink.IVR())
	tw.app.Script("getIvrCommand", waitForKey())
	c := tw.dialWith(t, phone.Options{
		From:    "\"J\xfcrgen\" <sip:j@127.0.0.1>",
		Headers: []phone.Header{{Name: "Subject", Value: "Caf\xe9"}, {Name: "X-Note", Value: "\xff"}},
		Change:  func(m *phone.Message) { m.Body = bytes.Replace(m.Body, []byte("s=-"), []byte("s=\xe9"), 1) },
	})
	if err := c.Answered(within(t)); err != nil {
		t.Fatal(err)
	}
	asked, err := tw.app.Await(within(t), 1, sink.Of("newCall"))
	if err != nil {
		t.Fatal(err)
	}
	if got := asked.Text("subject"); got != "Caf\uFFFD" {
		t.Errorf("subject %q", got)
	}
	if _, err := tw.app.Await(within(t), 1, sink.Of("getIvrCommand")); err != nil {
		t.Fatal(err)
	}
	if err := c.Hangup(within(t)); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "callingPartyDrop")
}

// A Redis that comes back empty has lost the live sessions; their owner
// asserts them anew, and they end as all others do.
func TestRedisThatForgot(t *testing.T) {
	tw := start(t)
	c, _ := tw.call(t)
	if err := tw.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Hangup(within(t)); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "callingPartyDrop")
}

// BYE may not overtake the ACK (RFC 3261 §15): hung up in between, the caller
// gets its BYE as soon as it has acknowledged.
func TestHangUpBetween200AndACK(t *testing.T) {
	tw := start(t)
	tw.app.Script("newCall", sink.IVR())
	c := tw.dialWith(t, phone.Options{KeepACK: true})
	if err := c.Answered(within(t)); err != nil {
		t.Fatal(err)
	}
	asked, err := tw.app.Await(within(t), 1, sink.Of("newCall"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tw.dialer.Instance(tw.firstRPC)
	if err != nil {
		t.Fatal(err)
	}
	customer := principal.As(within(t), principal.Principal{Subject: "demo", Domains: []string{domain}, Roles: []string{"domain"}})
	if _, err := mediaservicepb.NewCallsClient(conn).HangUpCall(customer, &mediaservicepb.HangUpCallRequest{
		Domain: domain, ReplyId: asked.Text("replyId"),
	}); err != nil {
		t.Fatal(err)
	}
	tw.completed(t, "hangup")
	if c.Over() {
		t.Fatal("BYE overtook the ACK")
	}
	c.ACK()
	if _, err := c.Ended(within(t)); err != nil {
		t.Errorf("no BYE after the ACK: %v", err)
	}
}
