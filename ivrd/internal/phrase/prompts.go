package phrase

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/fault"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

// Opener is the part of recordingd that this package asks.
type Opener interface {
	OpenPrompt(ctx context.Context, in *recordingpb.OpenPromptRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[recordingpb.OpenPromptResponse], error)
}

// prompts is the domain's prompt files.
type prompts struct {
	open Opener
	most int64
}

func (p prompts) fetch(ctx context.Context, r request, tag Tag) (Content, error) {
	// The stream must not outlive a fetch that gives up half-way.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.open.OpenPrompt(ctx, &recordingpb.OpenPromptRequest{Domain: r.domain, Name: r.name, IfNoneMatch: tag.ETag})
	if err != nil {
		return Content{}, promptProblem(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return Content{}, promptProblem(err)
	}
	if first.GetNotModified() {
		return Content{}, errNotModified
	}
	head := first.GetHead()
	if head.GetSize() > p.most {
		return Content{}, tooLarge(p.most)
	}
	c := Content{Data: first.GetData(), Name: r.name, Type: head.GetContentType(), Tag: Tag{ETag: head.GetEtag()}}
	for {
		more, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return Content{}, promptProblem(err)
		}
		c.Data = append(c.Data, more.GetData()...)
		if int64(len(c.Data)) > p.most {
			return Content{}, tooLarge(p.most)
		}
	}
}

// promptProblem words what the customer can mend; the rest stays an error of
// ours.
func promptProblem(err error) error {
	switch fault.ReasonOf(err) {
	case fault.PromptNotFound:
		return &Problem{Reason: "the prompt file does not exist", cause: err}
	case fault.PromptInvalid:
		return &Problem{Reason: "the prompt file's name is not valid", cause: err}
	case fault.DomainNotFound:
		return &Problem{Reason: "the domain has no prompt files", cause: err}
	}
	return fmt.Errorf("open prompt: %w", err)
}

func tooLarge(most int64) *Problem {
	return &Problem{Reason: fmt.Sprintf("the file is larger than %d MiB", most>>20)}
}
