package prompt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/callmesh/callmesh/kit/fault"
)

// wav makes a WAVE file: a format, the chunks in between, the data.
func wav(tag, channels uint16, rate uint32, bits uint16, between []byte, data []byte) []byte {
	var b bytes.Buffer
	le := binary.LittleEndian
	b.WriteString("RIFF\x00\x00\x00\x00WAVEfmt ")
	b.Write(le.AppendUint32(nil, 16))
	b.Write(le.AppendUint16(le.AppendUint16(nil, tag), channels))
	block := channels * bits / 8
	b.Write(le.AppendUint32(le.AppendUint32(nil, rate), rate*uint32(block)))
	b.Write(le.AppendUint16(le.AppendUint16(nil, block), bits))
	b.Write(between)
	b.WriteString("data")
	b.Write(le.AppendUint32(nil, uint32(len(data)))) //nolint:gosec // small
	b.Write(data)
	if len(data)%2 == 1 {
		b.WriteByte(0)
	}
	return b.Bytes()
}

func chunkOf(id string, data string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(id), uint32(len(data))) //nolint:gosec // small
	b = append(b, data...)
	if len(data)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

// extensible is PCM in a WAVEFORMATEXTENSIBLE.
func extensible() []byte {
	plain := wav(tagPCM, 1, 8000, 16, nil, make([]byte, 320))
	format := append([]byte{}, plain[20:36]...)
	binary.LittleEndian.PutUint16(format, tagExtensible)
	format = append(format, 22, 0, 16, 0, 4, 0, 0, 0, 1, 0)
	format = append(format, "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"...)
	out := append([]byte{}, plain[:12]...)
	out = append(out, chunkOf("fmt ", string(format))...)
	return append(out, plain[36:]...)
}

func ogg(packet string) []byte {
	page := append([]byte("OggS\x00\x02"), make([]byte, 20)...)
	page = append(page, 1, byte(len(packet)))
	return append(append(page, packet...), make([]byte, 40)...)
}

func TestWhatIsAudio(t *testing.T) {
	sound := make([]byte, 3201)
	long := chunkOf("LIST", strings.Repeat("x", 5001))
	whole := wav(tagPCM, 1, 8000, 16, nil, sound)
	cut := func(n int) []byte { return whole[:len(whole)-n] }
	patched := func(at int, v ...byte) []byte {
		b := append([]byte{}, whole...)
		copy(b[at:], v)
		return b
	}
	for name, tc := range map[string]struct {
		file []byte
		kind string
		says string
	}{
		"PCM 16":                   {wav(tagPCM, 1, 8000, 16, nil, sound), wavType, ""},
		"PCM 8 stereo":             {wav(tagPCM, 2, 44100, 8, nil, sound), wavType, ""},
		"A-law":                    {wav(tagALaw, 1, 8000, 8, nil, sound), wavType, ""},
		"µ-law with other chunks":  {append(wav(tagMuLaw, 1, 8000, 8, long, sound), long...), wavType, ""},
		"extensible":               {extensible(), wavType, ""},
		"shorter than a head":      {wav(tagMuLaw, 1, 8000, 8, nil, sound[:3]), wavType, ""},
		"no pad byte at the end":   {cut(1), wavType, ""},
		"MP3 with ID3":             {append([]byte("ID3\x04"), sound...), mp3Type, ""},
		"raw MP3":                  {append([]byte{0xff, 0xfb, 0x90, 0x64}, sound...), mp3Type, ""},
		"Ogg Opus":                 {ogg("OpusHead\x01"), oggType, ""},
		"Ogg Vorbis":               {ogg("\x01vorbis"), oggType, ""},
		"empty":                    {nil, "", "the file is empty"},
		"text":                     {[]byte("<html>no such page</html>"), "", "not audio that we know"},
		"long text":                {bytes.Repeat([]byte("text "), 1000), "", "not audio that we know"},
		"Ogg of pictures":          {ogg("\x80theora"), "", "not audio that we know"},
		"UTF-16 mark is no MP3":    {append([]byte{0xff, 0xfe}, sound...), "", "not audio that we know"},
		"AVI is RIFF, too":         {patched(8, 'A', 'V', 'I', ' '), "", "not audio that we know"},
		"cut off in the audio":     {cut(2), "", "cut off: 1 of 3201 bytes of audio are missing"},
		"cut off in the header":    {whole[:30], "", "ends before its format"},
		"cut off before the audio": {whole[:40], "", "holds no audio"},
		"audio of no length":       {wav(tagPCM, 1, 8000, 16, nil, nil), "", "holds no audio"},
		"length not known":         {patched(40, 0xff, 0xff, 0xff, 0xff), "", "does not say how long"},
		"float":                    {wav(3, 1, 8000, 32, nil, sound), "", "WAV encoding 3 with 32 bits is not supported"},
		"PCM 24":                   {wav(tagPCM, 1, 8000, 24, nil, sound), "", "WAV encoding 1 with 24 bits is not supported"},
		"six channels":             {wav(tagPCM, 6, 8000, 16, nil, sound), "", "6 channels"},
		"no channels":              {patched(22, 0), "", "0 channels"},
		"slow":                     {wav(tagPCM, 1, 4000, 16, nil, sound), "", "4000 samples a second"},
		"contradiction":            {patched(32, 7), "", "contradicts itself"},
		"audio before the format":  {append(append([]byte{}, whole[:12]...), whole[36:]...), "", "audio before its format"},
		"two formats":              {append(append([]byte{}, whole[:36]...), whole[12:]...), "", "two format chunks"},
		"two data chunks":          {append(wav(tagPCM, 1, 8000, 16, nil, sound), chunkOf("data", "xxxx")...), "", "two data chunks"},
		"tiny format":              {patched(16, 4), "", "format chunk has 4 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":                 bytes.NewReader(tc.file),
				"byte by byte":            iotest.OneByteReader(bytes.NewReader(tc.file)),
				"with EOF":                iotest.DataErrReader(bytes.NewReader(tc.file)),
				"in halves":               iotest.HalfReader(bytes.NewReader(tc.file)),
				"in odd pieces, with EOF": iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(tc.file))),
			} {
				i := &inspection{from: r, max: 1 << 20}
				got, err := io.ReadAll(i)
				if tc.says == "" {
					if err != nil || i.kind != tc.kind || !bytes.Equal(got, tc.file) {
						t.Errorf("%s: %q, %v, %d bytes of %d", how, i.kind, err, len(got), len(tc.file))
					}
					continue
				}
				if fault.ReasonOf(err) != fault.PromptInvalid || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%s: %v, want %s", how, err, tc.says)
				}
			}
		})
	}
}

func TestTooLargeAFileStopsAtOnce(t *testing.T) {
	endless := io.MultiReader(bytes.NewReader([]byte("ID3")), iotest.ErrReader(errors.New("read on")))
	i := &inspection{from: io.MultiReader(bytes.NewReader(make([]byte, 0)), endless), max: 2}
	if _, err := io.ReadAll(i); fault.ReasonOf(err) != fault.TooLarge {
		t.Errorf("%v, want TOO_LARGE", err)
	}
	// An error stays.
	if _, err := i.Read(make([]byte, 1)); fault.ReasonOf(err) != fault.TooLarge {
		t.Errorf("%v, want TOO_LARGE again", err)
	}
}

func FuzzInspection(f *testing.F) {
	f.Add(wav(tagPCM, 1, 8000, 16, nil, make([]byte, 100)), 7)
	f.Add(extensible(), 1)
	f.Add(ogg("OpusHead"), 3)
	f.Add([]byte{0xff, 0xfb, 0x90, 0x64}, 2)
	f.Add([]byte("RIFF....WAVE"), 5)
	f.Fuzz(func(t *testing.T, file []byte, piece int) {
		whole := &inspection{from: bytes.NewReader(file), max: 1 << 20}
		got, err := io.ReadAll(whole)
		if err == nil && (!bytes.Equal(got, file) || whole.kind == "") {
			t.Fatalf("accepted as %q, %d bytes of %d", whole.kind, len(got), len(file))
		}
		// What a file is does not depend on how it arrives.
		pieces := &inspection{from: &pieced{file, max(1, piece&0xff)}, max: 1 << 20}
		if _, again := io.ReadAll(pieces); (again == nil) != (err == nil) || (err != nil && again.Error() != err.Error()) || pieces.kind != whole.kind {
			t.Fatalf("at once: %q %v; in pieces of %d: %q %v", whole.kind, err, piece, pieces.kind, again)
		}
	})
}

type pieced struct {
	rest []byte
	size int
}

func (p *pieced) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}
