package grpckit

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
)

const (
	tokenHeader = "callmesh-principal"
	// keepBack is what each hop keeps of the caller's deadline, so that a
	// timeout deep down is reported by the hop that knows its name.
	keepBack = 20 * time.Millisecond
	// leastTime is the time under which work is not worth beginning.
	leastTime = 10 * time.Millisecond
)

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(ctx, info.FullMethod, &err)
	ctx, err = s.admit(ctx, req, info.FullMethod)
	if err != nil {
		return nil, s.encode(ctx, info.FullMethod, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline) - keepBack
		if left < leastTime {
			return nil, fault.New(fault.Timeout, "the service took too long").GRPCStatus().Err()
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	resp, err = handler(ctx, req)
	if err != nil {
		return nil, s.encode(ctx, info.FullMethod, err)
	}
	return resp, nil
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := ss.Context()
	defer s.recovered(ctx, info.FullMethod, &err)
	// Streams carry their domain in messages: their handlers check Covers.
	ctx, err = s.admit(ctx, nil, info.FullMethod)
	if err != nil {
		return s.encode(ctx, info.FullMethod, err)
	}
	if err = handler(srv, streamWith{ServerStream: ss, ctx: ctx}); err != nil {
		return s.encode(ctx, info.FullMethod, err)
	}
	return nil
}

// admit reads the caller's principal and asks the method's access.
func (s *Server) admit(ctx context.Context, req any, method string) (context.Context, error) {
	access := s.access[method]
	if access.anyone {
		return ctx, nil
	}
	if tokens := metadata.ValueFromIncomingContext(ctx, tokenHeader); len(tokens) == 1 {
		p, err := s.opts.Signer.Verify(tokens[0])
		if err != nil {
			return ctx, fault.New(fault.Unauthenticated, "credential is missing or invalid").Because(err)
		}
		ctx = principal.With(ctx, p)
	}
	return ctx, access.check(ctx, req)
}

// encode makes sure that only faults leave the daemon: a plain error would
// carry internal text to the client.
func (s *Server) encode(ctx context.Context, method string, err error) error {
	f := fault.From(err)
	switch f.Reason {
	case fault.Internal:
		s.opts.Log.ErrorContext(ctx, "rpc failed", "method", method, "err", fmt.Sprint(f.Unwrap()))
	case fault.Unavailable, fault.Timeout:
		if ctx.Err() == nil {
			s.opts.Log.WarnContext(ctx, "rpc failed", "method", method, "reason", string(f.Reason), "err", fmt.Sprint(f.Unwrap()))
		}
	}
	return f.GRPCStatus().Err()
}

func (s *Server) recovered(ctx context.Context, method string, err *error) {
	if r := recover(); r != nil {
		s.opts.Log.ErrorContext(ctx, "rpc panicked", "method", method, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		*err = fault.New(fault.Internal, "internal error").GRPCStatus().Err()
	}
}

type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamWith) Context() context.Context { return s.ctx }
