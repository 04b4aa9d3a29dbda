package prompt

import "encoding/binary"

// Format tags of WAVE files (RFC 2361 and mmreg.h).
const (
	tagPCM        = 1
	tagALaw       = 6
	tagMuLaw      = 7
	tagExtensible = 0xfffe
)

// wavParser follows the chunks of a RIFF/WAVE file as it streams by. It checks
// what a player will need: a format that we decode, and all the audio that the
// file announces.
type wavParser struct {
	// want bytes are gathered in buf for the next step; skip bytes pass by.
	buf  []byte
	skip int64

	seen   bool // the RIFF header
	id     string
	size   int64
	format bool
	data   int64 // bytes of audio announced; 0 = no data chunk yet
	left   int64 // bytes of audio outstanding
}

const (
	riffHeader  = 12
	chunkHeader = 8
	// maxFormat is far beyond WAVEFORMATEXTENSIBLE's 40 bytes.
	maxFormat = 1024
)

func (p *wavParser) write(b []byte) error {
	for len(b) > 0 {
		if p.skip > 0 {
			n := min(p.skip, int64(len(b)))
			p.skip -= n
			p.left = max(0, p.left-n)
			b = b[n:]
			continue
		}
		n := min(p.want()-len(p.buf), len(b))
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		if len(p.buf) < p.want() {
			continue
		}
		if err := p.step(); err != nil {
			return err
		}
	}
	return nil
}

// want is how many bytes the next step needs: a header, or the format chunk.
func (p *wavParser) want() int {
	switch {
	case !p.seen:
		return riffHeader
	case p.id == "fmt ":
		return int(p.size)
	}
	return chunkHeader
}

func (p *wavParser) step() error {
	b := p.buf
	p.buf = p.buf[:0]
	switch {
	case !p.seen:
		p.seen = true
		return nil
	case p.id == "fmt ":
		p.id = ""
		p.skip = p.size & 1 // chunks are padded to even length
		return p.checkFormat(b)
	}
	p.id, p.size = string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:]))
	switch p.id {
	case "fmt ":
		if p.size < 16 || p.size > maxFormat {
			return invalid("the WAV format chunk has %d bytes", p.size)
		}
	case "data":
		if err := p.checkData(); err != nil {
			return err
		}
		p.data, p.left, p.skip = p.size, p.size, p.size+p.size&1
		p.id = ""
	default:
		p.skip, p.id = p.size+p.size&1, ""
	}
	return nil
}

func (p *wavParser) checkData() error {
	switch {
	case !p.format:
		return invalid("the WAV file has audio before its format")
	case p.data > 0:
		return invalid("the WAV file has two data chunks")
	case p.size == 0:
		return invalid("the WAV file holds no audio")
	case p.size == 0xffffffff:
		return invalid("the WAV header does not say how long the file is, as when it was written to a pipe")
	}
	return nil
}

func (p *wavParser) checkFormat(b []byte) error {
	tag := binary.LittleEndian.Uint16(b)
	channels := binary.LittleEndian.Uint16(b[2:])
	rate := binary.LittleEndian.Uint32(b[4:])
	block := binary.LittleEndian.Uint16(b[12:])
	bits := binary.LittleEndian.Uint16(b[14:])
	// The first two bytes of the sub-format's GUID are the tag.
	if tag == tagExtensible && len(b) >= 26 {
		tag = binary.LittleEndian.Uint16(b[24:])
	}
	known := tag == tagPCM && (bits == 8 || bits == 16) || (tag == tagALaw || tag == tagMuLaw) && bits == 8
	switch {
	case p.format:
		return invalid("the WAV file has two format chunks")
	case !known:
		return invalid("WAV encoding %d with %d bits is not supported, use PCM with 8 or 16 bits, A-law or µ-law", tag, bits)
	case channels < 1 || channels > 2:
		return invalid("the WAV file has %d channels, use 1 or 2", channels)
	case rate < 8000 || rate > 48000:
		return invalid("the WAV file has %d samples a second, use 8000 to 48000", rate)
	case block != channels*bits/8:
		return invalid("the WAV format contradicts itself: blocks of %d bytes for %d channels of %d bits", block, channels, bits)
	}
	p.format = true
	return nil
}

// finish tells whether the file was whole.
func (p *wavParser) finish() error {
	switch {
	case p.data == 0 && !p.format:
		return invalid("the WAV file ends before its format")
	case p.data == 0:
		return invalid("the WAV file holds no audio")
	case p.left > 0:
		return invalid("the WAV file is cut off: %d of %d bytes of audio are missing", p.left, p.data)
	}
	return nil
}
