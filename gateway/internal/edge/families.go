package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/callmesh/callmesh/gateway/internal/auth"
	"github.com/callmesh/callmesh/gateway/internal/dialect"
	"github.com/callmesh/callmesh/gateway/internal/format"
	callsgw "github.com/callmesh/callmesh/gateway/internal/gen/callmesh/calls/v1"
	mediaservicegw "github.com/callmesh/callmesh/gateway/internal/gen/callmesh/mediaservice/v1"
	"github.com/callmesh/callmesh/gateway/internal/openapi"
	"github.com/callmesh/callmesh/gateway/internal/promptfile"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

// unused is what the generated registrations ask for and never look at.
func unused() context.Context {
	return context.Background() //nolint:forbidigo // requests bring their own
}

// newMediaservice is the family of contract §1: calls at sessiond, prompt files
// at recordingd.
func newMediaservice(opts Options, keys *auth.Keys, doc *openapi.Document) (*family, error) {
	f := (&family{
		name: "mediaservice", errors: dialect.Mediaservice(), keys: keys, doc: doc,
		cors: true, bodyBytes: opts.Limits.BodyBytes,
	}).finish(format.New(format.Policy{
		// §1.3 row 8: next is null on the last page, not absent.
		Except: []protoreflect.FullName{"callmesh.mediaservice.v1.ListPromptFilesResponse.next"},
	}))
	files := &promptfile.Files{
		Prompts: recordingpb.NewPromptsClient(opts.Recordingd), Max: opts.Limits.PromptBytes,
		ReadStall: opts.Limits.BodyTimeout, WriteStall: opts.Limits.WriteTimeout,
		Stored: func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"success":true}`)) // fails only when the client is gone
		},
	}
	errs := errors.Join(
		mediaservicegw.RegisterCallsHandlerClient(unused(), f.mux, mediaservicepb.NewCallsClient(opts.Sessiond)),
		mediaservicegw.RegisterPromptFilesHandlerClient(unused(), f.mux, mediaservicepb.NewPromptFilesClient(opts.Recordingd)),
	)
	for _, path := range []string{"/mediaservice/{domain}/promptfile/{filename}", "/{domain}/promptfile/{filename}"} {
		errs = errors.Join(errs,
			f.mux.HandlePath(http.MethodPut, path, f.stream(f.errors, files.Upload)),
			f.mux.HandlePath(http.MethodGet, path, f.stream(dialect.PromptDownload(), files.Download)),
		)
	}
	if errs != nil {
		return nil, fmt.Errorf("mediaservice routes: %w", errs)
	}
	return f, nil
}

// newCloudonix is the family of contract §2. What is not known yet is null
// (§2.3).
func newCloudonix(opts Options, keys *auth.Keys, doc *openapi.Document) (*family, error) {
	f := (&family{
		name: "cloudonix", errors: dialect.Cloudonix(), keys: keys, doc: doc, bodyBytes: opts.Limits.BodyBytes,
	}).finish(format.New(format.Policy{NullUnset: true}))
	if err := callsgw.RegisterSessionsHandlerClient(unused(), f.mux, callspb.NewSessionsClient(opts.Sessiond)); err != nil {
		return nil, fmt.Errorf("cloudonix routes: %w", err)
	}
	return f, nil
}
