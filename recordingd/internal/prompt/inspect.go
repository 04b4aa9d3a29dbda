package prompt

import (
	"errors"
	"io"

	"github.com/callmesh/callmesh/kit/fault"
)

// Content types that we tell apart.
const (
	wavType  = "audio/wav"
	mp3Type  = "audio/mpeg"
	oggType  = "audio/ogg"
	headSize = 64
)

// inspection passes a file through while it looks at it: what is too large, no
// audio or not whole ends in a fault instead of io.EOF, so that a store never
// keeps it.
type inspection struct {
	from io.Reader
	max  int64
	size int64

	head []byte
	wav  *wavParser
	kind string
	err  error
}

func (i *inspection) Read(b []byte) (int, error) {
	if i.err != nil {
		return 0, i.err
	}
	n, err := i.from.Read(b)
	i.size += int64(n)
	if i.size > i.max {
		i.err = fault.New(fault.TooLarge, "file is larger than %d bytes", i.max).On("filename")
		return 0, i.err
	}
	if err := i.look(b[:n]); err != nil {
		i.err = err
		return 0, err
	}
	if errors.Is(err, io.EOF) {
		if i.err = i.finish(); i.err == nil {
			i.err = io.EOF
		}
		return n, i.err
	}
	return n, err
}

// look gathers the head, and then follows the chunks of a WAV file.
func (i *inspection) look(b []byte) error {
	if i.kind == "" {
		i.head = append(i.head, b[:min(len(b), headSize-len(i.head))]...)
		if len(i.head) < headSize {
			return nil
		}
		if err := i.recognise(); err != nil || i.wav == nil {
			return err
		}
		// The head may have begun in earlier reads, which the parser has not seen.
		seen := i.size - int64(len(b))
		if err := i.wav.write(i.head[:seen]); err != nil {
			return err
		}
	}
	if i.wav != nil {
		return i.wav.write(b)
	}
	return nil
}

func (i *inspection) recognise() error {
	i.kind = sniff(i.head)
	switch i.kind {
	case "":
		return invalid("the file is not audio that we know: WAV, MP3 or Ogg")
	case wavType:
		i.wav = &wavParser{}
	}
	return nil
}

func (i *inspection) finish() error {
	switch {
	case i.size == 0:
		return invalid("the file is empty")
	case i.kind == "":
		// Shorter than a head.
		if err := i.recognise(); err != nil {
			return err
		}
		if i.wav != nil {
			if err := i.wav.write(i.head); err != nil {
				return err
			}
		}
	}
	if i.wav != nil {
		return i.wav.finish()
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.PromptInvalid, format, args...)
}

// sniff tells by its first bytes what a file is; "" if it is no audio we know.
func sniff(head []byte) string {
	has := func(at int, text string) bool {
		return len(head) >= at+len(text) && string(head[at:at+len(text)]) == text
	}
	switch {
	case has(0, "RIFF") && has(8, "WAVE"):
		return wavType
	case has(0, "ID3"), mpegFrame(head):
		return mp3Type
	case has(0, "OggS") && oggAudio(head):
		return oggType
	}
	return ""
}

// mpegFrame tells a header of MPEG audio, layer III, from other bytes that
// begin with ones (ISO 11172-3 §2.4.1.3: reserved values are refused).
func mpegFrame(h []byte) bool {
	if len(h) < 4 || h[0] != 0xff || h[1]&0xe0 != 0xe0 {
		return false
	}
	version, layer, bitrate, rate := h[1]>>3&3, h[1]>>1&3, h[2]>>4, h[2]>>2&3
	return version != 1 && layer == 1 && bitrate != 0 && bitrate != 15 && rate != 3
}

// oggAudio looks at the first packet of the first page (RFC 3533 §6): Ogg
// carries pictures as well.
func oggAudio(h []byte) bool {
	const segments = 26
	if len(h) <= segments {
		return false
	}
	packet := h[min(len(h), segments+1+int(h[segments])):]
	for _, codec := range []string{"OpusHead", "\x01vorbis", "Speex   ", "\x7fFLAC"} {
		if len(packet) >= len(codec) && string(packet[:len(codec)]) == codec {
			return true
		}
	}
	return false
}
