package dialogue

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

const traceHeader = "traceparent"

// traceParent is the trace of a start, to be kept with the dialogue: all that is
// asked in a call belongs to one trace, whichever instance asks it.
func traceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceHeader]
}

func withTrace(ctx context.Context, parent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceHeader: parent})
}
