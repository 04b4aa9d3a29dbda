// Package callback words the requests to a customer's application, and reads
// its answers, by the mediaservice contract (§1.4 to §1.7, §1.12).
package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// Site is what every callback says of the node and the site that sends it.
type Site struct {
	// Server is the address of the node ("ivrServer").
	Server string
	// ID and BaseURL are set in hybrid deployments only.
	ID, BaseURL string
}

// Envelope holds the fields that every callback has.
type Envelope struct {
	ReplyID       string
	TransactionID string
}

// common are the fields of every callback, under their public names.
type common struct {
	SessionID   string          `json:"sessionId"`
	Domain      string          `json:"domain,omitempty"`
	ReferenceID json.RawMessage `json:"sessionReferenceId,omitempty"`
	Server      string          `json:"ivrServer,omitempty"`
	TraceID     string          `json:"traceId,omitempty"`
	Transaction string          `json:"httpTransactionId"`
	ReplyID     string          `json:"replyId,omitempty"`
	SiteID      string          `json:"siteId,omitempty"`
	SiteBaseURL string          `json:"siteBaseUrl,omitempty"`
}

func envelope(s call.Session, site Site, e Envelope) common {
	return common{
		SessionID: s.ID.String(), Domain: s.Domain, ReferenceID: s.ReferenceID, Server: site.Server, TraceID: s.TraceID,
		Transaction: e.TransactionID, ReplyID: e.ReplyID, SiteID: site.ID, SiteBaseURL: site.BaseURL,
	}
}

// newCall is the question of contract §1.5. What the INVITE lacks is left out.
type newCall struct {
	common
	SIPCallID           string   `json:"sipCallId"`
	CallingPartyPrivacy string   `json:"callingPartyPrivacy"`
	CallingParty        string   `json:"callingParty,omitempty"`
	DisplayName         string   `json:"displayName,omitempty"`
	FromUser            string   `json:"fromUser,omitempty"`
	XHeaders            headers  `json:"xHeaders,omitempty"`
	PHeaders            headers  `json:"pHeaders,omitempty"`
	CopyHeaders         []string `json:"copyHeaders,omitempty"`
	CalledParty         string   `json:"calledParty"`
	DiversionHeaders    string   `json:"diversionHeaders,omitempty"`
	ReferredBy          string   `json:"referredBy,omitempty"`
	PAINumber           string   `json:"paiNumber,omitempty"`
	Subject             string   `json:"subject,omitempty"`
	SrcAddr             string   `json:"srcAddr"`
}

// NewCall returns the body of the newCall question.
func NewCall(s call.Session, site Site, e Envelope) ([]byte, error) {
	q := newCall{
		common: envelope(s, site, e), SIPCallID: s.SIPCallID, CallingPartyPrivacy: "public",
		CallingParty: s.Caller.FromUser, DisplayName: s.Caller.DisplayName, FromUser: s.Caller.FromUser,
		XHeaders: collect(s.Headers, "X-"), PHeaders: collect(s.Headers, "P-"), CalledParty: s.Callee.Number,
		DiversionHeaders: strings.Join(s.Caller.DivertedBy, ", "), ReferredBy: s.Caller.ReferredBy,
		PAINumber: e164(s.Caller.Asserted), Subject: s.Subject, SrcAddr: s.Source.IP,
	}
	if s.Caller.Private {
		q.CallingPartyPrivacy = "secret"
	}
	if s.Caller.Asserted != "" {
		q.CallingParty = s.Caller.Asserted
	}
	names := slices.Concat(slices.Collect(maps.Keys(q.XHeaders)), slices.Collect(maps.Keys(q.PHeaders)))
	slices.Sort(names)
	q.CopyHeaders = names
	return json.Marshal(q)
}

// e164 returns the number if it is one: digits, perhaps after a plus.
func e164(user string) string {
	digits := strings.TrimPrefix(user, "+")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	return user
}

// headers maps a name to its value, or to its values if it occurs repeatedly.
type headers map[string]any

func collect(hs []call.Header, prefix string) headers {
	out := headers{}
	for _, h := range hs {
		if !strings.HasPrefix(strings.ToUpper(h.Name), prefix) {
			continue
		}
		switch had := out[h.Name].(type) {
		case nil:
			out[h.Name] = h.Value
		case string:
			out[h.Name] = []string{had, h.Value}
		case []string:
			out[h.Name] = append(had, h.Value)
		}
	}
	return out
}

// Question returns the body of a question whose own fields another daemon
// made, with the common fields added. body must be a JSON object.
func Question(body []byte, s call.Session, site Site, e Envelope) ([]byte, error) {
	return merge(body, envelope(s, site, e))
}

// Notification returns the body of a notification that another daemon made.
func Notification(body []byte, s call.Session, site Site, e Envelope) ([]byte, error) {
	return merge(body, envelope(s, site, e))
}

// merge writes the fields of first and then those of body, without taking
// either apart: large numbers stay as they are.
func merge(body []byte, first common) ([]byte, error) {
	head, err := json.Marshal(first)
	if err != nil {
		return nil, fmt.Errorf("callback body: %w", err)
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return head, nil
	}
	if !json.Valid(body) || body[0] != '{' {
		return nil, fmt.Errorf("callback body: not a JSON object")
	}
	rest := bytes.TrimSpace(body[1:])
	if len(rest) > 0 && rest[0] == '}' {
		return head, nil
	}
	out := append(head[:len(head)-1:len(head)-1], ',')
	return append(out, rest...), nil
}

// completed is the notification of contract §1.7.
type completed struct {
	common
	// Whole seconds from the first SIP message to the end, as a string.
	Duration string `json:"sessionDuration"`
	Reason   string `json:"reason"`
}

// SessionCompleted returns the body of the notification that a session is over.
func SessionCompleted(s call.Session, site Site, e Envelope) ([]byte, error) {
	seconds := int64(s.Ended.Sub(s.Started).Seconds())
	return json.Marshal(completed{
		common: envelope(s, site, e), Duration: strconv.FormatInt(max(seconds, 0), 10), Reason: s.CompletedReason,
	})
}

// alarm is the notification of contract §1.12.
type alarm struct {
	common
	Type          string          `json:"type"`
	Error         string          `json:"error"`
	ErrorDetails  json.RawMessage `json:"errorDetails,omitempty"`
	Status        string          `json:"status,omitempty"`
	ParticipantID string          `json:"participantId,omitempty"`
	User          string          `json:"user,omitempty"`
	CallID        string          `json:"callId,omitempty"`
}

// Alarm returns the body of an alarm. Details must be JSON or empty.
func Alarm(a call.Alarm, s call.Session, site Site, e Envelope) ([]byte, error) {
	body := alarm{common: envelope(s, site, e), Type: a.Type, Error: a.Error}
	if a.Details != "" {
		body.ErrorDetails = json.RawMessage(a.Details)
	}
	if a.OfCall && len(s.Participants) > 0 {
		body.Status, body.ParticipantID = s.Status(), s.Participants[0].ID.String()
		body.User, body.CallID = s.Caller.Number, s.SIPCallID
	}
	return json.Marshal(body)
}
