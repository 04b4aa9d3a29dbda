// Package phrase turns the phrases of a command into audio: prompt files of the
// domain and files behind URLs, decoded once and kept in memory. A phrase that
// cannot be played costs an alarm, never the call (contract §1.8.2).
package phrase

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/ivrd/internal/audio"
	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/ivrd/internal/flight"
)

// Clip is audio ready for mediad.
type Clip struct {
	// ID is the SHA-256 of the samples in lowercase hex.
	ID string
	// Samples are linear 16-bit little-endian mono at 8000 Hz; read only.
	Samples []byte
}

// Content is a file as its source holds it.
type Content struct {
	Data []byte
	// Name and Type tell headerless formats apart.
	Name, Type string
	// Tag is what the source wants to see again to say "not modified".
	Tag Tag
}

// Tag is the version of a file.
type Tag struct{ ETag, LastModified string }

// source fetches one kind of file. It returns errNotModified when the file still
// is what tag says, and a *Problem when the fault is the customer's to mend.
type source interface {
	fetch(ctx context.Context, r request, tag Tag) (Content, error)
}

// request names a file.
type request struct {
	domain       string
	name         string
	allowPrivate bool
}

var errNotModified = errors.New("not modified")

// Problem is why a phrase cannot be played, in words for the customer.
type Problem struct {
	Reason string
	// Timeout: the file did not come in time.
	Timeout bool
	// Passing: the fault is the source's state, not the phrase. Audio that was
	// fetched before may be played instead.
	Passing bool
	cause   error
}

func (p *Problem) Error() string { return p.Reason }

// Unwrap returns the cause, for the log.
func (p *Problem) Unwrap() error { return p.cause }

// Options is what a resolver needs; all fields are required.
type Options struct {
	Prompts Opener
	Limits  Limits
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Limits bound fetching and keeping.
type Limits struct {
	// CacheBytes is how much decoded audio is kept.
	CacheBytes int64
	// FileBytes is the most that one file may hold.
	FileBytes int64
	// Connect and Fetch bound one fetch of a URL.
	Connect, Fetch time.Duration
	// Fresh is how long a prompt file is played without asking whether it changed.
	Fresh time.Duration
}

// Resolver fetches and keeps audio.
type Resolver struct {
	files    prompts
	web      *web
	cache    *cache
	flights  *flight.Group[*Clip]
	fresh    time.Duration
	decoding chan struct{}
	log      *slog.Logger
	now      func() time.Time
	lookups  *prometheus.CounterVec
}

// concurrently is how many phrases of one command are fetched at a time, and
// how many files are decoded at a time in all: decoding needs up to 150 MB for
// the largest file allowed.
const (
	concurrently = 4
	decoders     = 2
)

// New returns a resolver with an empty cache.
func New(o Options) *Resolver {
	r := &Resolver{
		files:    prompts{open: o.Prompts, most: o.Limits.FileBytes},
		web:      newWeb(o.Limits),
		cache:    newCache(o.Limits.CacheBytes),
		flights:  flight.NewGroup[*Clip](o.Limits.Fetch + 5*time.Second),
		fresh:    o.Limits.Fresh,
		decoding: make(chan struct{}, decoders),
		log:      o.Log,
		now:      o.Now,
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmesh_ivrd_phrase_lookups_total",
			Help: "Phrases looked up, by source (file, url) and result (hit, revalidated, fetched, stale, failed).",
		}, []string{"source", "result"}),
	}
	o.Metrics.MustRegister(r.lookups)
	return r
}

// Close ends all fetching.
func (r *Resolver) Close() {
	r.flights.Close()
	r.web.close()
}

// Resolution is the audio of one command.
type Resolution struct {
	Clips      []*Clip
	Background *Clip
	Problems   []cycle.Problem
}

// Resolve fetches the audio of a command; its only error is ctx's.
func (r *Resolver) Resolve(ctx context.Context, domain string, allowPrivate bool, cmd command.Command) (Resolution, error) {
	clips := make([]*Clip, len(cmd.Phrases)+1)
	problems := make([]*cycle.Problem, len(clips))
	slots := make(chan struct{}, concurrently)
	var wg sync.WaitGroup
	get := func(i, index int, p command.Phrase) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			clips[i], problems[i] = r.phrase(ctx, domain, allowPrivate, index, p)
		})
	}
	for i, p := range cmd.Phrases {
		get(i, i, p)
	}
	background := len(cmd.Phrases)
	if bg := cmd.Background; bg != nil && !bg.Stop {
		get(background, -1, backgroundPhrase(bg))
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Resolution{}, err
	}
	res := Resolution{Background: clips[background]}
	for i, clip := range clips {
		if problems[i] != nil {
			res.Problems = append(res.Problems, *problems[i])
		}
		if clip != nil && i != background {
			res.Clips = append(res.Clips, clip)
		}
	}
	return res, nil
}

func backgroundPhrase(bg *command.Background) command.Phrase {
	p := command.Phrase{Format: command.FormatFile, FileName: bg.FileName, URL: bg.URL, Problem: bg.Problem}
	if bg.URL != "" {
		p.Format = command.FormatURL
	}
	return p
}

func (r *Resolver) phrase(ctx context.Context, domain string, allowPrivate bool, index int, p command.Phrase) (*Clip, *cycle.Problem) {
	problem := &cycle.Problem{Index: index, Error: cycle.ErrorPhrase, FileName: p.FileName, URL: withoutSecrets(p.URL)}
	if p.Problem != "" {
		problem.Reason = p.Problem
		return nil, problem
	}
	req := request{domain: domain, name: p.FileName, allowPrivate: allowPrivate}
	from, kind := source(r.files), "file"
	if p.Format == command.FormatURL {
		from, kind, req.name = r.web, "url", p.URL
	}
	clip, err := r.clip(ctx, from, kind, req, p)
	if err == nil {
		return clip, nil
	}
	var known *Problem
	switch {
	case errors.As(err, &known):
		problem.Reason = known.Reason
		if known.Timeout {
			problem.Error = cycle.ErrorPhraseRemote
		}
	default:
		problem.Reason = "the audio could not be fetched"
	}
	if ctx.Err() == nil {
		r.log.WarnContext(ctx, "phrase cannot be played", "domain", domain, "file", problem.FileName, "url", problem.URL, "err", err)
	}
	return nil, problem
}

// clip returns a file's audio from the cache while it is fresh, and otherwise
// asks the source, once for all who want it now.
func (r *Resolver) clip(ctx context.Context, from source, kind string, req request, p command.Phrase) (*Clip, error) {
	key := kind + "\x00" + req.domain + "\x00" + req.name
	if e := r.cache.get(key); e != nil && !p.Refresh && r.now().Before(e.checked.Add(r.keep(p))) {
		r.lookups.WithLabelValues(kind, "hit").Inc()
		return e.clip, nil
	}
	return r.flights.Do(ctx, key, func(ctx context.Context) (*Clip, error) {
		clip, result, err := r.refresh(ctx, from, key, req)
		r.lookups.WithLabelValues(kind, result).Inc()
		return clip, err
	})
}

// keep is how long a phrase may be played unasked. Without cacheTimeToLive a
// URL is asked for each time, which costs a 304 where its server knows of those.
func (r *Resolver) keep(p command.Phrase) time.Duration {
	if p.Format == command.FormatURL && p.Keep != nil {
		return *p.Keep
	}
	return r.fresh
}

func (r *Resolver) refresh(ctx context.Context, from source, key string, req request) (*Clip, string, error) {
	old := r.cache.get(key)
	var tag Tag
	if old != nil {
		tag = old.tag
	}
	content, err := from.fetch(ctx, req, tag)
	switch {
	case errors.Is(err, errNotModified) && old != nil:
		r.cache.put(key, entry{clip: old.clip, tag: old.tag, checked: r.now()})
		return old.clip, "revalidated", nil
	case err != nil:
		if known, ok := errors.AsType[*Problem](err); ok && !known.Passing || old == nil {
			r.cache.drop(key)
			return nil, "failed", err
		}
		// The store or the host is in trouble: what was played a while ago is better
		// than silence.
		r.log.WarnContext(ctx, "phrase played from the cache, its source cannot be reached", "domain", req.domain, "err", err)
		return old.clip, "stale", nil
	}
	clip, err := r.decode(ctx, content)
	if err != nil {
		r.cache.drop(key)
		return nil, "failed", err
	}
	r.cache.put(key, entry{clip: clip, tag: content.Tag, checked: r.now()})
	return clip, "fetched", nil
}

func (r *Resolver) decode(ctx context.Context, c Content) (*Clip, error) {
	select {
	case r.decoding <- struct{}{}:
	case <-ctx.Done():
		return nil, &Problem{Reason: "the audio did not come in time", Timeout: true, Passing: true, cause: ctx.Err()}
	}
	defer func() { <-r.decoding }()
	samples, err := audio.Decode(c.Data, c.Name, c.Type)
	if err != nil {
		return nil, &Problem{Reason: err.Error()}
	}
	sum := sha256.Sum256(samples)
	return &Clip{ID: hex.EncodeToString(sum[:]), Samples: samples}, nil
}
