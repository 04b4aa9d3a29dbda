// Package rpc serves recordingd's gRPC services: it reads a request, asks the
// library, and answers.
package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/principal"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
	"github.com/callmesh/callmesh/recordingd/internal/prompt"
)

// chunk is what one message of a download carries.
const chunk = 64 << 10

// Prompts is callmesh.recording.v1.Prompts.
type Prompts struct {
	recordingpb.UnimplementedPromptsServer
	Library *prompt.Library
}

// Add registers the service.
func (p *Prompts) Add(s *grpckit.Server) {
	access := grpckit.Roles("domain", "admin").Or(grpckit.Services("ivrd", "gateway"))
	s.Add(&recordingpb.Prompts_ServiceDesc, p, map[string]grpckit.Access{
		"PutPrompt": access, "OpenPrompt": access, "DeletePrompt": access, "ListPrompts": access,
	})
}

// covers holds streams to what grpckit checks for other requests.
func covers(ctx context.Context, domain string) error {
	if !principal.From(ctx).Covers(domain) {
		return fault.New(fault.DomainForbidden, "credential is not valid for this domain").On("domain")
	}
	return nil
}

// PutPrompt stores an upload.
func (p *Prompts) PutPrompt(stream grpc.ClientStreamingServer[recordingpb.PutPromptRequest, recordingpb.PutPromptResponse]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.BadRequest, "upload holds no message")
	} else if err != nil {
		return err
	}
	if err := covers(stream.Context(), first.GetDomain()); err != nil {
		return err
	}
	kept, err := p.Library.Put(stream.Context(), first.GetDomain(), first.GetName(), &upload{stream: stream, data: first.GetData()})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&recordingpb.PutPromptResponse{Head: head(kept)})
}

// upload is the bytes of a PutPrompt stream. Only its orderly end is io.EOF.
type upload struct {
	stream grpc.ClientStreamingServer[recordingpb.PutPromptRequest, recordingpb.PutPromptResponse]
	data   []byte
}

func (u *upload) Read(b []byte) (int, error) {
	for len(u.data) == 0 {
		msg, err := u.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fault.New(fault.Timeout, "the upload was broken off").Because(err)
		}
		u.data = msg.GetData()
	}
	n := copy(b, u.data)
	u.data = u.data[n:]
	return n, nil
}

// OpenPrompt sends a file, or its head alone if the caller has it already.
func (p *Prompts) OpenPrompt(req *recordingpb.OpenPromptRequest, stream grpc.ServerStreamingServer[recordingpb.OpenPromptResponse]) error {
	if err := covers(stream.Context(), req.GetDomain()); err != nil {
		return err
	}
	f, found, err := p.Library.Open(stream.Context(), req.GetDomain(), req.GetName())
	if err != nil {
		return err
	}
	defer f.Close()
	msg := &recordingpb.OpenPromptResponse{Head: head(found)}
	if req.GetIfNoneMatch() == found.ETag {
		msg.NotModified = true
		return stream.Send(msg)
	}
	return send(stream, msg, f)
}

func send(stream grpc.ServerStreamingServer[recordingpb.OpenPromptResponse], msg *recordingpb.OpenPromptResponse, f io.Reader) error {
	for {
		// A buffer a message: grpc may hold on to what it was given.
		buf := make([]byte, chunk)
		n, err := io.ReadFull(f, buf)
		msg.Data = buf[:n]
		if n > 0 || msg.Head != nil {
			if err := stream.Send(msg); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fault.New(fault.Unavailable, "prompt storage is not available").Because(err)
		}
		msg = &recordingpb.OpenPromptResponse{}
	}
}

// DeletePrompt removes a file.
func (p *Prompts) DeletePrompt(ctx context.Context, req *recordingpb.DeletePromptRequest) (*recordingpb.DeletePromptResponse, error) {
	if err := p.Library.Delete(ctx, req.GetDomain(), req.GetName()); err != nil {
		return nil, err
	}
	return &recordingpb.DeletePromptResponse{}, nil
}

// ListPrompts returns a page of files. Their content types are not looked at.
func (p *Prompts) ListPrompts(ctx context.Context, req *recordingpb.ListPromptsRequest) (*recordingpb.ListPromptsResponse, error) {
	page, next, err := p.Library.List(ctx, req.GetDomain(), req.GetNext())
	if err != nil {
		return nil, err
	}
	resp := &recordingpb.ListPromptsResponse{Next: next}
	for _, found := range page {
		resp.Prompts = append(resp.Prompts, head(found))
	}
	return resp, nil
}

func head(p prompt.Prompt) *recordingpb.PromptHead {
	return &recordingpb.PromptHead{
		Name: p.Name, Size: p.Size, Etag: p.ETag, ContentType: p.ContentType, Modified: timestamppb.New(p.Modified),
	}
}
