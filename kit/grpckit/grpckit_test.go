package grpckit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
)

type echo struct {
	testgrpc.UnimplementedTestServiceServer
	err   error
	panic bool
}

func (e echo) EmptyCall(ctx context.Context, _ *testgrpc.Empty) (*testgrpc.Empty, error) {
	if e.panic {
		panic("boom at 10.0.0.7")
	}
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("no deadline")
	}
	return &testgrpc.Empty{}, e.err
}

func access(a grpckit.Access) map[string]grpckit.Access {
	all := map[string]grpckit.Access{}
	for _, m := range testgrpc.TestService_ServiceDesc.Methods {
		all[m.MethodName] = a
	}
	for _, m := range testgrpc.TestService_ServiceDesc.Streams {
		all[m.StreamName] = a
	}
	return all
}

func serve(t *testing.T, impl echo, a grpckit.Access) (*grpckit.Dialer, *grpc.ClientConn) {
	t.Helper()
	signer, err := principal.NewSigner(bytes.Repeat([]byte{7}, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh.Memory{}
	s := grpckit.NewServer(grpckit.Options{Service: "sessiond", Mesh: m, Signer: signer, Log: slog.New(slog.DiscardHandler)})
	s.Add(&testgrpc.TestService_ServiceDesc, impl, access(a))
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.WithoutCancel(t.Context())) }()
	d := grpckit.NewDialer(m, signer, "gateway")
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Drain(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	conn, err := d.Service("sessiond")
	if err != nil {
		t.Fatal(err)
	}
	return d, conn
}

func TestWhoMayCall(t *testing.T) {
	user := principal.Principal{Subject: "demo", Domains: []string{"a.test"}, Roles: []string{"domain"}}
	for name, tc := range map[string]struct {
		access grpckit.Access
		as     *principal.Principal
		want   fault.Reason
	}{
		"a daemon that is named":     {access: grpckit.Services("gateway")},
		"a daemon that is not named": {access: grpckit.Services("ivrd"), want: fault.Forbidden},
		"a role that is named":       {access: grpckit.Roles("domain"), as: &user},
		"a role that is not named":   {access: grpckit.Roles("admin"), as: &user, want: fault.Forbidden},
		"nobody":                     {access: grpckit.Roles("domain"), as: &principal.Principal{}, want: fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			_, conn := serve(t, echo{}, tc.access)
			ctx := t.Context()
			if tc.as != nil {
				ctx = principal.As(ctx, *tc.as)
			}
			_, err := testgrpc.NewTestServiceClient(conn).EmptyCall(ctx, &testgrpc.Empty{})
			if got := fault.ReasonOf(err); got != tc.want {
				t.Errorf("reason %q, want %q (%v)", got, tc.want, err)
			}
		})
	}
}

func TestOnlyFaultsLeaveADaemon(t *testing.T) {
	for name, tc := range map[string]struct {
		impl echo
		want fault.Reason
	}{
		"a fault":       {echo{err: fault.New(fault.SessionNotFound, "session x not found")}, fault.SessionNotFound},
		"a plain error": {echo{err: errors.New("redis 10.0.0.7 refused")}, fault.Internal},
		"a panic":       {echo{panic: true}, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			_, conn := serve(t, tc.impl, grpckit.Services("gateway"))
			_, err := testgrpc.NewTestServiceClient(conn).EmptyCall(t.Context(), &testgrpc.Empty{})
			if got := fault.ReasonOf(err); got != tc.want || strings.Contains(err.Error(), "10.0.0.7") {
				t.Errorf("err %v", err)
			}
		})
	}
}

func TestAForgottenMethodFailsListen(t *testing.T) {
	s := grpckit.NewServer(grpckit.Options{Service: "sessiond", Mesh: &mesh.Memory{}, Log: slog.New(slog.DiscardHandler)})
	s.Add(&testgrpc.TestService_ServiceDesc, echo{}, map[string]grpckit.Access{"EmptyCall": {}, "Nonsense": {}})
	err := s.Listen(t.Context())
	if err == nil || !strings.Contains(err.Error(), "UnaryCall") || !strings.Contains(err.Error(), "Nonsense") {
		t.Errorf("err %v", err)
	}
}

func TestHealthNeedsNoCredential(t *testing.T) {
	_, conn := serve(t, echo{}, grpckit.Access{})
	got, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", got, err)
	}
}
