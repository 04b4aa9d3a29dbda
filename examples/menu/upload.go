package menu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callmesh/callmesh/examples/menu/prompts"
)

// Platform is the callmesh that the prompts are uploaded to.
type Platform struct {
	// URL of the REST API, such as http://127.0.0.1:8080.
	URL, Key, Domain string
}

// Upload puts the menu's prompts into the domain's prompt storage. It waits for
// a platform that is still starting until ctx ends.
func Upload(ctx context.Context, to Platform) error {
	files, err := prompts.Make(ctx)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	for name, wav := range files {
		if err := put(ctx, client, to, FileName(name), wav); err != nil {
			return fmt.Errorf("upload prompt %s: %w", name, err)
		}
	}
	return nil
}

func put(ctx context.Context, client *http.Client, to Platform, name string, wav []byte) error {
	target := strings.TrimSuffix(to.URL, "/") + "/mediaservice/" + url.PathEscape(to.Domain) + "/promptfile/" + name
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(wav))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+to.Key)
		req.Header.Set("Content-Type", "audio/wav")
		err = send(client, req)
		if _, refused := errors.AsType[*net.OpError](err); !refused {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func send(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it is of use
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return nil
}
