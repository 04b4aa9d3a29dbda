package edge_test

import (
	"google.golang.org/protobuf/proto"

	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	commonpb "github.com/callmesh/callmesh/proto/gen/callmesh/common/v1"
)

const token = "018f3a7c9d4e7b12a5c60f1e2d3c4b5a"

// sample is a session in the middle of its call.
func sample() *callspb.Session {
	return &callspb.Session{
		Id: proto.Int64(9007199254740991), DomainId: proto.Int64(12),
		Domain: &callspb.Domain{
			TenantId: proto.Int64(1), Domain: proto.String(domain), Active: proto.Bool(true), Aliases: []string{"demo"},
			Profile: &commonpb.RawJson{Json: []byte(`{"x": 12345678901234567890}`)},
		},
		Destination: proto.String("1000"), CallerId: proto.String("+46850510"), Direction: proto.String("incoming"),
		Token: proto.String(token), CallStartTime: proto.Int64(1767225600123), CallAnswerTime: proto.Int64(1767225601456),
		StartTime: proto.String("2026-01-01T00:00:00.123Z"), AnswerTime: proto.String("2026-01-01T00:00:01.456Z"),
		Profile: &commonpb.RawJson{Json: []byte(`{"sip-headers":{"Plan":"gold \u003c"}}`)},
		Status:  proto.String("connected"), CreatedAt: proto.String("2026-01-01T00:00:00.120Z"), ModifiedAt: proto.String("2026-01-01T00:00:01.456Z"),
	}
}
