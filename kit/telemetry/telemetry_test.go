package telemetry

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestALogLineLeadsToItsTrace(t *testing.T) {
	var out bytes.Buffer
	log, err := Logger(&out, Config{Level: "info"}, "sessiond")
	if err != nil {
		t.Fatal(err)
	}
	id := trace.TraceID{1, 2, 3}
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
	log.With("session", "s1").InfoContext(ctx, "call answered")
	for _, want := range []string{`"daemon":"sessiond"`, `"session":"s1"`, id.String()} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", out.String(), want)
		}
	}
}

func TestAWrongLevelIsNamed(t *testing.T) {
	if _, err := Logger(&bytes.Buffer{}, Config{Level: "loud"}, "x"); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Errorf("err %v", err)
	}
}
