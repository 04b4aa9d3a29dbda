package rpc

import (
	"context"

	"github.com/callmesh/callmesh/kit/grpckit"
	mediaservicepb "github.com/callmesh/callmesh/proto/gen/callmesh/mediaservice/v1"
	"github.com/callmesh/callmesh/recordingd/internal/prompt"
)

// PromptFiles is callmesh.mediaservice.v1.PromptFiles: the same library as the
// mediaservice contract shows it.
type PromptFiles struct {
	mediaservicepb.UnimplementedPromptFilesServer
	Library *prompt.Library
}

// Add registers the service.
func (p *PromptFiles) Add(s *grpckit.Server) {
	access := grpckit.Roles("domain", "admin").Or(grpckit.Services("gateway"))
	s.Add(&mediaservicepb.PromptFiles_ServiceDesc, p, map[string]grpckit.Access{
		"ListPromptFiles": access, "DeletePromptFile": access,
	})
}

// ListPromptFiles returns a page of files.
func (p *PromptFiles) ListPromptFiles(ctx context.Context, req *mediaservicepb.ListPromptFilesRequest) (*mediaservicepb.ListPromptFilesResponse, error) {
	page, next, err := p.Library.List(ctx, req.GetDomain(), req.GetNext())
	if err != nil {
		return nil, err
	}
	resp := &mediaservicepb.ListPromptFilesResponse{Success: true}
	if next != "" {
		resp.Next = &next
	}
	for _, found := range page {
		resp.Files = append(resp.Files, &mediaservicepb.PromptFile{Name: found.Name, Size: found.Size})
	}
	return resp, nil
}

// DeletePromptFile removes a file.
func (p *PromptFiles) DeletePromptFile(ctx context.Context, req *mediaservicepb.DeletePromptFileRequest) (*mediaservicepb.DeletePromptFileResponse, error) {
	if err := p.Library.Delete(ctx, req.GetDomain(), req.GetFilename()); err != nil {
		return nil, err
	}
	return &mediaservicepb.DeletePromptFileResponse{Success: true}, nil
}
