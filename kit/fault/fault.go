// Package fault is the one error vocabulary of the mesh. A fault keeps its
// meaning across gRPC hops; only the gateway turns it into an HTTP answer.
package fault

import (
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is what a caller may branch on.
type Reason string

// The reasons. Each has a row in Codes, and each dialect of the gateway must
// be able to say it.
const (
	BadRequest      Reason = "BAD_REQUEST"
	Unauthenticated Reason = "UNAUTHENTICATED"
	Forbidden       Reason = "FORBIDDEN"
	// DomainForbidden: the credential is good, but not for the domain named.
	DomainForbidden   Reason = "DOMAIN_FORBIDDEN"
	DomainNotFound    Reason = "DOMAIN_NOT_FOUND"
	SessionNotFound   Reason = "SESSION_NOT_FOUND"
	CallEnded         Reason = "CALL_ENDED"
	ReplyIDInvalid    Reason = "REPLY_ID_INVALID"
	CommandNotRunning Reason = "COMMAND_NOT_RUNNING"
	DialogueNotFound  Reason = "DIALOGUE_NOT_FOUND"
	PromptNotFound    Reason = "PROMPT_NOT_FOUND"
	PromptInvalid     Reason = "PROMPT_INVALID"
	TooLarge          Reason = "TOO_LARGE"
	LegNotFound       Reason = "LEG_NOT_FOUND"
	// StaleWrite: somebody wrote since the caller read. StaleEpoch: the caller
	// no longer owns what it writes. StaleGrant: it no longer commands the leg.
	StaleWrite     Reason = "STALE_WRITE"
	StaleEpoch     Reason = "STALE_EPOCH"
	StaleGrant     Reason = "STALE_GRANT"
	PortsExhausted Reason = "PORTS_EXHAUSTED"
	// ApplicationFailed: the customer's application gave no usable answer.
	ApplicationFailed Reason = "APPLICATION_FAILED"
	Unavailable       Reason = "UNAVAILABLE"
	Timeout           Reason = "TIMEOUT"
	Internal          Reason = "INTERNAL"
)

// Codes maps every reason to the gRPC code it travels under.
var Codes = map[Reason]codes.Code{
	BadRequest:        codes.InvalidArgument,
	Unauthenticated:   codes.Unauthenticated,
	Forbidden:         codes.PermissionDenied,
	DomainForbidden:   codes.PermissionDenied,
	DomainNotFound:    codes.NotFound,
	SessionNotFound:   codes.NotFound,
	CallEnded:         codes.FailedPrecondition,
	ReplyIDInvalid:    codes.FailedPrecondition,
	CommandNotRunning: codes.NotFound,
	DialogueNotFound:  codes.NotFound,
	PromptNotFound:    codes.NotFound,
	PromptInvalid:     codes.InvalidArgument,
	TooLarge:          codes.InvalidArgument,
	LegNotFound:       codes.NotFound,
	StaleWrite:        codes.Aborted,
	StaleEpoch:        codes.Aborted,
	StaleGrant:        codes.FailedPrecondition,
	PortsExhausted:    codes.ResourceExhausted,
	ApplicationFailed: codes.FailedPrecondition,
	Unavailable:       codes.Unavailable,
	Timeout:           codes.DeadlineExceeded,
	Internal:          codes.Internal,
}

const domain = "callmesh"

// Fault is an error meant for the caller: Message is shown to clients, the
// wrapped cause is logged and never leaves the daemon.
type Fault struct {
	Reason  Reason
	Message string
	// Field is the request field at fault, if one is, under its public name.
	Field string
	cause error
}

// New returns a fault whose message is for the client's eyes.
func New(r Reason, format string, args ...any) *Fault {
	return &Fault{Reason: r, Message: fmt.Sprintf(format, args...)}
}

// On returns the fault with the request field that caused it.
func (f *Fault) On(field string) *Fault { c := *f; c.Field = field; return &c }

// Because returns the fault with the cause that the log will show.
func (f *Fault) Because(err error) *Fault { c := *f; c.cause = err; return &c }

func (f *Fault) Error() string { return f.Message }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.cause }

// Is makes errors.Is(err, fault.New(reason, "")) match on the reason alone.
func (f *Fault) Is(target error) bool {
	t, ok := errors.AsType[*Fault](target)
	return ok && t.Reason == f.Reason
}

// GRPCStatus lets grpc-go carry the fault without help from the handler.
func (f *Fault) GRPCStatus() *status.Status {
	st, err := status.New(Codes[f.Reason], f.Message).WithDetails(&errdetails.ErrorInfo{
		Reason: string(f.Reason), Domain: domain, Metadata: map[string]string{"field": f.Field},
	})
	if err != nil {
		return status.New(codes.Internal, "internal error")
	}
	return st
}

// ReasonOf returns the reason of err, Internal for what is no fault, and ""
// for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return From(err).Reason
}

// transport says what the errors mean that gRPC itself makes.
var transport = map[codes.Code]*Fault{
	codes.Unavailable:      {Reason: Unavailable, Message: "a part of the service cannot be reached"},
	codes.DeadlineExceeded: {Reason: Timeout, Message: "the service took too long"},
	codes.Canceled:         {Reason: Timeout, Message: "the request was cancelled"},
	codes.Unauthenticated:  {Reason: Unauthenticated, Message: "credential is missing or invalid"},
	codes.PermissionDenied: {Reason: Forbidden, Message: "not allowed"},
	codes.InvalidArgument:  {Reason: BadRequest, Message: "malformed request"},
}

// From recovers the fault from an error that may have crossed the wire. What
// it does not know becomes Internal, with err kept as the cause.
func From(err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return &Fault{
				Reason: Reason(info.GetReason()), Field: info.GetMetadata()["field"],
				Message: st.Message(), cause: err,
			}
		}
	}
	if f, ok := transport[st.Code()]; ok {
		return f.Because(err)
	}
	return New(Internal, "internal error").Because(err)
}
