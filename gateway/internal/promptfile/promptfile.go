// Package promptfile carries prompt files up and down as plain byte streams
// (contract §1.3 rows 9 and 10): they are too big for one message, and their
// bodies are no JSON.
package promptfile

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/callmesh/callmesh/kit/fault"
	recordingpb "github.com/callmesh/callmesh/proto/gen/callmesh/recording/v1"
)

const (
	// chunk is what one message carries.
	chunk = 64 << 10
	// longest bounds a transfer as a whole.
	longest = 15 * time.Minute
)

// Files moves prompt files between HTTP and recordingd.
type Files struct {
	Prompts recordingpb.PromptsClient
	// Max is the largest upload in bytes.
	Max int64
	// ReadStall and WriteStall are how long a client may send or take nothing.
	ReadStall, WriteStall time.Duration
	// Stored answers an upload that succeeded.
	Stored func(http.ResponseWriter)
}

func (f *Files) tooLarge() error {
	return fault.New(fault.TooLarge, "file is larger than %d bytes", f.Max).On("filename")
}

// Upload stores the request's body. The file is visible only when complete:
// whatever fails before that cancels the stream, and recordingd forgets it.
func (f *Files) Upload(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	if r.ContentLength > f.Max {
		return f.tooLarge()
	}
	conn := http.NewResponseController(w)
	err := f.put(r.Context(), conn, http.MaxBytesReader(w, r.Body, f.Max), params)
	// The server's deadline counts from the head of the request, and a long
	// upload has used it up.
	_ = conn.SetWriteDeadline(time.Now().Add(f.WriteStall))
	if err != nil {
		return err
	}
	f.Stored(w)
	return nil
}

func (f *Files) put(ctx context.Context, conn *http.ResponseController, body io.Reader, params map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	stream, err := f.Prompts.PutPrompt(ctx)
	if err != nil {
		return err
	}
	first := &recordingpb.PutPromptRequest{Domain: params["domain"], Name: params["filename"]}
	if err := f.send(stream, first, conn, body); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return err
}

type upload interface {
	Send(*recordingpb.PutPromptRequest) error
}

func (f *Files) send(stream upload, msg *recordingpb.PutPromptRequest, conn *http.ResponseController, body io.Reader) error {
	for {
		// Not every connection has deadlines; the context's holds for all.
		_ = conn.SetReadDeadline(time.Now().Add(f.ReadStall))
		var err error
		if msg.Data, err = fill(body); err != nil && !errors.Is(err, io.EOF) {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return f.tooLarge()
			}
			return fault.New(fault.BadRequest, "request body ended early").Because(err)
		}
		if sendErr := stream.Send(msg); errors.Is(sendErr, io.EOF) {
			return nil // recordingd has answered, and CloseAndRecv says what
		} else if sendErr != nil {
			return sendErr
		}
		if err != nil {
			return nil
		}
		msg = &recordingpb.PutPromptRequest{}
	}
}

// fill reads one chunk. Only a body that ends as its head announced gives
// io.EOF: io.ReadFull would let a broken one pass for it.
func fill(body io.Reader) ([]byte, error) {
	buf := make([]byte, chunk)
	n := 0
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if err != nil {
			return buf[:n], err
		}
	}
	return buf, nil
}

// Download sends the file, or an error for which nothing was written yet. A
// file that breaks off breaks the connection: a client must not take a part
// for the whole.
func (f *Files) Download(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	ctx, cancel := context.WithTimeout(r.Context(), longest)
	defer cancel()
	stream, err := f.Prompts.OpenPrompt(ctx, &recordingpb.OpenPromptRequest{
		Domain: params["domain"], Name: params["filename"], IfNoneMatch: unquote(r.Header.Get("If-None-Match")),
	})
	if err != nil {
		return err
	}
	msg, err := stream.Recv()
	if err != nil {
		return err
	}
	writeHead(w.Header(), msg.GetHead())
	if msg.GetNotModified() {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Length", strconv.FormatInt(msg.GetHead().GetSize(), 10))
	w.WriteHeader(http.StatusOK)
	conn := http.NewResponseController(w)
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(f.WriteStall))
		if _, err := w.Write(msg.GetData()); err != nil {
			return nil // the client is gone
		}
		if msg, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func writeHead(h http.Header, head *recordingpb.PromptHead) {
	h.Set("Content-Type", head.GetContentType())
	h.Set("ETag", `"`+head.GetEtag()+`"`)
	h.Set("Cache-Control", "private, no-cache")
	// The bytes are a customer's: no browser shall take them for a page.
	h.Set("X-Content-Type-Options", "nosniff")
	if m := head.GetModified(); m.IsValid() {
		h.Set("Last-Modified", m.AsTime().UTC().Format(http.TimeFormat))
	}
}

// unquote takes the tag out of "tag" or W/"tag"; lists and * ask for nothing
// that we could save.
func unquote(tag string) string {
	if len(tag) > 2 && tag[:2] == "W/" {
		tag = tag[2:]
	}
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' && utf8.ValidString(tag) {
		return tag[1 : len(tag)-1]
	}
	return ""
}
