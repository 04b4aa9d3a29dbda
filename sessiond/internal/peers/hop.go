package peers

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// hopHeader marks a request that has been passed on: it is never passed on
// again, so that two instances with different views cannot play ball.
const hopHeader = "callmesh-hop"

func hop(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, hopHeader, "1")
}

// Hopped tells whether the request has been passed on already.
func Hopped(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, hopHeader)) > 0
}
