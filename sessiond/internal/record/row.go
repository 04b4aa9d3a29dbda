package record

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// row holds the searchable scalars of a live session (Cloudonix contract §2.6).
type row struct {
	ID          int64  `json:"id"`
	Token       string `json:"token"`
	Domain      string `json:"domain"`
	Direction   string `json:"direction"`
	Status      string `json:"status"`
	Destination string `json:"destination"`
	CallerID    string `json:"callerId"`
	Callback    string `json:"callback,omitempty"`
	TimeLimit   int64  `json:"timeLimit,omitempty"`
	// Milliseconds since 1970; absent where it has not happened.
	Created  int64  `json:"createdAt,omitempty"`
	Started  int64  `json:"callStartTime,omitempty"`
	Answered int64  `json:"callAnswerTime,omitempty"`
	Ended    int64  `json:"callEndTime,omitempty"`
	Modified int64  `json:"modifiedAt,omitempty"`
	Error    string `json:"lastError,omitempty"`
}

// Row returns what the list of live sessions holds of a session.
func Row(s call.Session) ([]byte, error) {
	b, err := json.Marshal(row{
		ID: s.Number, Token: partition.Token(s.ID), Domain: s.Domain, Direction: string(s.Direction), Status: s.Status(),
		Destination: s.Callee.Number, CallerID: s.Caller.Number, Callback: s.Callback, TimeLimit: int64(s.TimeLimit.Seconds()),
		Created: millis(s.Created), Started: millis(s.Started), Answered: millis(s.Answered), Ended: millis(s.Ended),
		Modified: millis(s.Modified), Error: s.LastError,
	})
	if err != nil {
		return nil, fmt.Errorf("row of session %s: %w", s.ID, err)
	}
	return b, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
