// Package dialog is the SIP dialog of one leg as plain values (RFC 3261 §12):
// made from an INVITE, stored with the session, and enough, on any instance, to
// accept the far end's next request and to make our own.
package dialog

import (
	"fmt"
	"strings"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// Dialog is the state of RFC 3261 §12, seen from our side.
type Dialog struct {
	Leg       uint8
	CallID    string
	LocalTag  string
	RemoteTag string
	// LocalURI and RemoteURI are the addresses of our and the far end's From/To.
	LocalURI  string
	RemoteURI string
	// RemoteTarget is the far end's Contact.
	RemoteTarget string
	// RouteSet holds URIs, the next hop first.
	RouteSet []string
	// LocalCSeq is the last number we used, 0 for none.
	LocalCSeq uint32
	// RemoteCSeq is the last number the far end used.
	RemoteCSeq uint32
	Secure     bool
	// Transport and Source say how the far end's last request came: "udp",
	// "192.0.2.1:5060".
	Transport string
	Source    string
	// InviteCSeq is the number of the INVITE that made the dialog; its ACK has it too.
	InviteCSeq uint32
	LocalSDP   string
	RemoteSDP  string
	Accepted   time.Time
}

// Refusal is an answer other than success to a request.
type Refusal struct {
	Code   int
	Reason string
	// RetryAfter in seconds, where the code wants one.
	RetryAfter int
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Code, r.Reason) }

// FromInvite makes the dialog of the UAS from a validated initial INVITE
// (RFC 3261 §12.1.1).
func FromInvite(m *header.Message, leg uint8, localTag, transport, source string) (Dialog, error) {
	seq, method, ok := m.CSeq()
	if !ok || method != "INVITE" {
		return Dialog{}, fmt.Errorf("dialog: CSeq %q of an INVITE", m.Value("cseq"))
	}
	from, err := header.ParseAddress(m.Value("from"))
	if err != nil {
		return Dialog{}, fmt.Errorf("dialog: From: %w", err)
	}
	to, err := header.ParseAddress(m.Value("to"))
	if err != nil {
		return Dialog{}, fmt.Errorf("dialog: To: %w", err)
	}
	target, err := contact(m)
	if err != nil {
		if m.Count("contact") > 0 {
			return Dialog{}, err
		}
		// RFC 2543 callers may send none: what they call themselves has to do.
		target = from.URI
	}
	d := Dialog{
		Leg: leg, CallID: m.Value("call-id"), LocalTag: localTag, RemoteTag: from.Param("tag"),
		LocalURI: to.URI, RemoteURI: from.URI, RemoteTarget: target,
		RemoteCSeq: seq, InviteCSeq: seq, Transport: strings.ToLower(transport), Source: source,
	}
	for _, rr := range m.List("record-route") { // UAS: in the order received
		a, err := header.ParseAddress(rr)
		if err != nil {
			return Dialog{}, fmt.Errorf("dialog: Record-Route: %w", err)
		}
		d.RouteSet = append(d.RouteSet, a.URI)
	}
	// §12.1.1: secure if it came over TLS to a sips URI.
	d.Secure = d.Transport == "tls" && strings.HasPrefix(strings.ToLower(requestURI(m)), "sips:")
	return d, nil
}

func requestURI(m *header.Message) string {
	_, rest, _ := strings.Cut(m.StartLine, " ")
	uri, _, _ := strings.Cut(rest, " ")
	return uri
}

func contact(m *header.Message) (string, error) {
	all := m.List("contact")
	if len(all) == 0 {
		return "", fmt.Errorf("dialog: no Contact")
	}
	a, err := header.ParseAddress(all[0])
	if err != nil {
		return "", fmt.Errorf("dialog: Contact: %w", err)
	}
	return a.URI, nil
}

// Matches tells whether a request to us belongs to the dialog.
func (d *Dialog) Matches(m *header.Message) bool {
	return d.CallID == m.Value("call-id") && d.RemoteTag == m.Tag("from") && strings.EqualFold(d.LocalTag, m.Tag("to"))
}

// Receive takes an in-dialog request other than ACK and CANCEL into the dialog
// (RFC 3261 §12.2.2). A refusal leaves the dialog as it was.
func (d *Dialog) Receive(m *header.Message, transport, source string) *Refusal {
	if !d.Matches(m) {
		return NoSuchDialog()
	}
	seq, method, ok := m.CSeq()
	if !ok {
		return &Refusal{Code: 400, Reason: "Bad CSeq"}
	}
	// Equal numbers are refused as well: a retransmission never gets here, and a
	// new transaction has to count up.
	if d.RemoteCSeq != 0 && seq <= d.RemoteCSeq {
		return &Refusal{Code: 500, Reason: "CSeq Out Of Order"}
	}
	d.RemoteCSeq = seq
	d.Transport, d.Source = strings.ToLower(transport), source
	if RefreshesTarget(method) {
		if target, err := contact(m); err == nil {
			d.RemoteTarget = target
		}
	}
	return nil
}

// RefreshesTarget tells whether a Contact in a request of that method moves the
// remote target (RFC 3261 §12.2, RFC 3311 §5.1, RFC 6665 §4.4.1, RFC 3515).
func RefreshesTarget(method string) bool {
	switch method {
	case "INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER":
		return true
	}
	return false
}

// NoSuchDialog is the answer to an in-dialog request that belongs nowhere.
func NoSuchDialog() *Refusal {
	return &Refusal{Code: 481, Reason: "Call/Transaction Does Not Exist"}
}

// MergeKey is what two INVITEs share that reached us on two ways from one
// (RFC 3261 §8.2.2.2): same From tag, Call-ID and CSeq, and no To tag.
func MergeKey(m *header.Message) string {
	return m.Value("call-id") + "\x00" + m.Tag("from") + "\x00" + m.Value("cseq")
}
