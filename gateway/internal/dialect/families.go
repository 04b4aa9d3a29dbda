package dialect

import (
	"net/http"

	"github.com/callmesh/callmesh/kit/fault"
)

// Mediaservice speaks by the table of contract §1.2: what was understood but
// cannot be done is a 200 with success false.
func Mediaservice() *Family {
	impossible := func(code string) row { return row{status: http.StatusOK, code: code} }
	bad := func(code string) row { return row{status: http.StatusBadRequest, code: code} }
	// Worth another try a moment later.
	again := func(code string) row { return row{status: http.StatusServiceUnavailable, code: code} }
	return &Family{body: result, rows: map[fault.Reason]row{
		fault.BadRequest:        bad("badRequest"),
		fault.PromptInvalid:     bad("promptInvalid"),
		fault.TooLarge:          {status: http.StatusRequestEntityTooLarge, code: "tooLarge"},
		fault.Unauthenticated:   {status: http.StatusUnauthorized, plain: true},
		fault.Forbidden:         {status: http.StatusForbidden, plain: true},
		fault.DomainForbidden:   {status: http.StatusForbidden, plain: true},
		fault.DomainNotFound:    impossible("domainNotFound"),
		fault.SessionNotFound:   impossible("sessionNotFound"),
		fault.CallEnded:         impossible("callEnded"),
		fault.ReplyIDInvalid:    impossible("replyIdInvalid"),
		fault.CommandNotRunning: impossible("commandNotRunning"),
		fault.DialogueNotFound:  impossible("dialogueNotFound"),
		fault.PromptNotFound:    impossible("promptNotFound"),
		fault.ApplicationFailed: impossible("applicationFailed"),
		// A leg is gone when its call is: customers know no legs.
		fault.LegNotFound:    impossible("callEnded"),
		fault.StaleWrite:     again("conflict"),
		fault.StaleEpoch:     again("conflict"),
		fault.StaleGrant:     again("conflict"),
		fault.PortsExhausted: again("noCapacity"),
		fault.Unavailable:    again("unavailable"),
		fault.Timeout:        {status: http.StatusGatewayTimeout, code: "timeout"},
		fault.Internal:       {status: http.StatusInternalServerError, code: "internalError"},
	}}
}

// PromptDownload is Mediaservice for a request that is answered with a file
// (contract §1.3 row 9): there a file that is absent is a 404.
func PromptDownload() *Family {
	f := Mediaservice()
	f.rows[fault.PromptNotFound] = row{status: http.StatusNotFound, code: "promptNotFound"}
	return f
}

type failure struct {
	Success bool   `json:"success"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
}

type notice struct {
	Message string `json:"message"`
}

func result(r row, message string) any {
	if r.plain {
		return notice{http.StatusText(r.status)}
	}
	return failure{Reason: message, Error: r.code}
}

// Cloudonix speaks by contract §2.1: a status and a message, and 401 for
// whatever the credential does not allow.
func Cloudonix() *Family {
	says := func(status int) row { return row{status: status} }
	return &Family{body: numbered, rows: map[fault.Reason]row{
		fault.BadRequest:        says(http.StatusBadRequest),
		fault.PromptInvalid:     says(http.StatusBadRequest),
		fault.ReplyIDInvalid:    says(http.StatusBadRequest),
		fault.TooLarge:          says(http.StatusRequestEntityTooLarge),
		fault.Unauthenticated:   says(http.StatusUnauthorized),
		fault.Forbidden:         says(http.StatusUnauthorized),
		fault.DomainForbidden:   says(http.StatusUnauthorized),
		fault.DomainNotFound:    says(http.StatusNotFound),
		fault.SessionNotFound:   says(http.StatusNotFound),
		fault.CallEnded:         says(http.StatusNotFound), // §2.4: DELETE of an ended session
		fault.CommandNotRunning: says(http.StatusNotFound),
		fault.DialogueNotFound:  says(http.StatusNotFound),
		fault.PromptNotFound:    says(http.StatusNotFound),
		fault.LegNotFound:       says(http.StatusNotFound),
		fault.StaleWrite:        says(http.StatusConflict),
		fault.StaleEpoch:        says(http.StatusConflict),
		fault.StaleGrant:        says(http.StatusConflict),
		fault.ApplicationFailed: says(http.StatusBadGateway),
		fault.PortsExhausted:    says(http.StatusServiceUnavailable),
		fault.Unavailable:       says(http.StatusServiceUnavailable),
		fault.Timeout:           says(http.StatusGatewayTimeout),
		fault.Internal:          says(http.StatusInternalServerError),
	}}
}

type numberedBody struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func numbered(r row, message string) any { return numberedBody{r.status, message} }
