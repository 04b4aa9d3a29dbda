// Package recordingd keeps audio files: today the prompts that customers upload.
package recordingd

import (
	"context"
	"errors"
	"fmt"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/recordingd/internal/blob"
	"github.com/callmesh/callmesh/recordingd/internal/prompt"
	"github.com/callmesh/callmesh/recordingd/internal/rpc"
)

// Config of recordingd.
type Config struct {
	Blob    Blob    `yaml:"blob"`
	Prompts Prompts `yaml:"prompts"`
}

// Blob says where files are kept.
type Blob struct {
	// URL of the store: file:./data/blob, or file:///var/lib/callmesh/blob.
	URL string `yaml:"url"`
}

// Prompts bounds what a domain may upload.
type Prompts struct {
	// MaxBytes is the largest prompt file.
	MaxBytes int64 `yaml:"maxBytes"`
}

// Defaults returns the configuration for trying out.
func Defaults() Config {
	return Config{Blob: Blob{URL: "file:./data/blob"}, Prompts: Prompts{MaxBytes: 32 << 20}}
}

// Parts returns recordingd as parts of a process.
func Parts(cfg Config, env daemon.Env) ([]run.Part, error) {
	if cfg.Prompts.MaxBytes <= 0 {
		return nil, errors.New("prompts.maxBytes must be above zero")
	}
	store, err := blob.Open(cfg.Blob.URL, env.Now)
	if err != nil {
		return nil, err
	}
	library, err := prompt.NewLibrary(store, cfg.Prompts.MaxBytes, env.Metrics)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	server := env.Server()
	(&rpc.Prompts{Library: library}).Add(server)
	(&rpc.PromptFiles{Library: library}).Add(server)
	return []run.Part{
		{Name: "blob store", Stop: func(context.Context) error {
			if err := store.Close(); err != nil {
				return fmt.Errorf("blob store: %w", err)
			}
			return nil
		}},
		server.Part(),
	}, nil
}
