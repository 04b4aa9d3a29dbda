// Package prompt keeps the audio files of domains: what may be stored under
// which name, and what a file is.
package prompt

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/recordingd/internal/blob"
)

// Prompt is one file.
type Prompt struct {
	Name string
	blob.Info
	// ContentType is known once the file is put or opened, not from a list.
	ContentType string
}

// Library is the prompts of all domains.
type Library struct {
	store blob.Store
	max   int64
	puts  *prometheus.CounterVec
	bytes *prometheus.CounterVec
}

// NewLibrary returns a library of files of at most max bytes.
func NewLibrary(store blob.Store, max int64, metrics prometheus.Registerer) (*Library, error) {
	l := &Library{
		store: store, max: max,
		puts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_recordingd_prompt_puts_total", Help: "Uploads of prompts, by what became of them.",
		}, []string{"result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_recordingd_prompt_bytes_total", Help: "Bytes of prompts stored and read.",
		}, []string{"direction"}),
	}
	if err := errors.Join(metrics.Register(l.puts), metrics.Register(l.bytes)); err != nil {
		return nil, fmt.Errorf("prompt metrics: %w", err)
	}
	return l, nil
}

// PageSize is how many files a list holds (contract §1.3).
const PageSize = 100

func folder(domain string) (string, error) {
	if !blob.IsName(domain) {
		return "", fault.New(fault.BadRequest, "domain is not a domain name").On("domain")
	}
	return path.Join("prompts", domain), nil
}

func key(domain, name string) (string, error) {
	dir, err := folder(domain)
	if err != nil {
		return "", err
	}
	if !blob.IsName(name) {
		return "", fault.New(fault.BadRequest,
			"filename must be 1 to 255 of A-Z, a-z, 0-9, dot, underscore and hyphen, and not begin with a dot").On("filename")
	}
	return path.Join(dir, name), nil
}

// Put stores what r gives, if it is audio that we know and whole. The old file
// stays until the new one is complete, and if it never is.
func (l *Library) Put(ctx context.Context, domain, name string, r io.Reader) (Prompt, error) {
	k, err := key(domain, name)
	if err != nil {
		return Prompt{}, err
	}
	look := &inspection{from: r, max: l.max}
	info, err := l.store.Put(ctx, k, look)
	if err != nil {
		err = broken(ctx, err)
		l.puts.WithLabelValues(strings.ToLower(string(fault.ReasonOf(err)))).Inc()
		return Prompt{}, err
	}
	l.puts.WithLabelValues("stored").Inc()
	l.bytes.WithLabelValues("in").Add(float64(info.Size))
	return Prompt{Name: name, Info: info, ContentType: look.kind}, nil
}

// Open returns a prompt and its bytes.
func (l *Library) Open(ctx context.Context, domain, name string) (io.ReadCloser, Prompt, error) {
	k, err := key(domain, name)
	if err != nil {
		return nil, Prompt{}, err
	}
	f, info, err := l.store.Open(ctx, k)
	if err != nil {
		return nil, Prompt{}, notFound(ctx, name, err)
	}
	buffered := bufio.NewReader(f)
	head, err := buffered.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = f.Close() // the first error says it
		return nil, Prompt{}, broken(ctx, err)
	}
	kind := sniff(head)
	if kind == "" {
		kind = "application/octet-stream" // put there by other hands than ours
	}
	return &reading{Reader: buffered, Closer: f, out: l.bytes.WithLabelValues("out")},
		Prompt{Name: name, Info: info, ContentType: kind}, nil
}

type reading struct {
	io.Reader
	io.Closer
	out prometheus.Counter
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.out.Add(float64(n))
	return n, err
}

// Delete removes a prompt.
func (l *Library) Delete(ctx context.Context, domain, name string) error {
	k, err := key(domain, name)
	if err != nil {
		return err
	}
	if err := l.store.Delete(ctx, k); err != nil {
		return notFound(ctx, name, err)
	}
	return nil
}

// List returns a page of prompts in the order of their names, and the cursor of
// the next page, empty on the last. Pages are stable: a file that stays is
// listed once, whatever is put and deleted between two pages.
func (l *Library) List(ctx context.Context, domain, cursor string) ([]Prompt, string, error) {
	dir, err := folder(domain)
	if err != nil {
		return nil, "", err
	}
	after, err := openCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	infos, err := l.store.List(ctx, dir, after, PageSize+1)
	if err != nil {
		return nil, "", broken(ctx, err)
	}
	next := ""
	if len(infos) > PageSize {
		infos = infos[:PageSize]
		next = sealCursor(path.Base(infos[PageSize-1].Key))
	}
	prompts := make([]Prompt, len(infos))
	for i, info := range infos {
		prompts[i] = Prompt{Name: path.Base(info.Key), Info: info}
	}
	return prompts, next, nil
}

// cursorV1 lets a later release tell its cursors from these.
const cursorV1 = "1:"

func sealCursor(name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorV1 + name))
}

func openCursor(cursor string) (after string, err error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	name, ok := strings.CutPrefix(string(raw), cursorV1)
	if err != nil || !ok || !blob.IsName(name) {
		return "", fault.New(fault.BadRequest, "next is not a cursor of ours").On("next")
	}
	return name, nil
}

func notFound(ctx context.Context, name string, err error) error {
	if errors.Is(err, blob.ErrNotFound) {
		return fault.New(fault.PromptNotFound, "there is no file %s", name)
	}
	return broken(ctx, err)
}

// broken turns what a store could not do into a fault: what the upload itself
// was refused for, or else that storage does not work.
func broken(ctx context.Context, err error) error {
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		return f
	}
	if ctx.Err() != nil {
		return fault.New(fault.Timeout, "the request was cancelled").Because(err)
	}
	return fault.New(fault.Unavailable, "prompt storage is not available").Because(err)
}
