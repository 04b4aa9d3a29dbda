package fault

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAFaultSurvivesTheWire(t *testing.T) {
	sent := New(SessionNotFound, "session %s not found", "s1").On("token").Because(errors.New("dial 10.0.0.7: refused"))
	got := From(status.Convert(sent).Err())
	if got.Reason != SessionNotFound || got.Message != "session s1 not found" || got.Field != "token" {
		t.Errorf("got %+v", got)
	}
	if !errors.Is(fmt.Errorf("wrapped: %w", sent), New(SessionNotFound, "")) {
		t.Error("a wrapped fault does not match its reason")
	}
}

func TestForeignErrorsKeepTheirTextToThemselves(t *testing.T) {
	for err, want := range map[error]Reason{
		errors.New("dial tcp 10.0.0.7:6379: refused"):         Internal,
		status.Error(codes.Unavailable, "10.0.0.7 is down"):   Unavailable,
		status.Error(codes.DeadlineExceeded, "10.0.0.7 slow"): Timeout,
	} {
		f := From(err)
		if f.Reason != want {
			t.Errorf("%v: reason %s, want %s", err, f.Reason, want)
		}
		if f.Error() == err.Error() {
			t.Errorf("%v: internal text shown", err)
		}
	}
}

func TestEveryReasonHasACode(t *testing.T) {
	for r, c := range Codes {
		if c == codes.OK || New(r, "x").GRPCStatus().Code() != c {
			t.Errorf("%s travels as %v", r, New(r, "x").GRPCStatus().Code())
		}
	}
}
