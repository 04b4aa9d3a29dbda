package rtp_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/callmesh/callmesh/mediad/internal/rtp"
)

func TestParse(t *testing.T) {
	header := []byte{0x80, 0x80 | 101, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	first := func(b byte, rest ...byte) []byte { return join([]byte{b}, header[1:], rest) }
	tests := []struct {
		name    string
		data    []byte
		payload string
		err     error
	}{
		{"plain", join(header, []byte("abc")), "abc", nil},
		{"no payload", header, "", nil},
		{"csrc", first(0x82, append(make([]byte, 8), "abc"...)...), "abc", nil},
		{"extension", first(0x90, append([]byte{0xBE, 0xDE, 0, 1, 0, 0, 0, 0}, "abc"...)...), "abc", nil},
		{"padding", first(0xA0, 'a', 'b', 0, 2), "ab", nil},
		{"empty", nil, "", rtp.ErrShort},
		{"eleven bytes", header[:11], "", rtp.ErrShort},
		{"version 1", first(0x40), "", rtp.ErrVersion},
		{"csrc cut off", first(0x82, 1, 2, 3), "", rtp.ErrShort},
		{"extension cut off", first(0x90, 0xBE, 0xDE), "", rtp.ErrShort},
		{"extension longer than packet", first(0x90, 0xBE, 0xDE, 0xFF, 0xFF, 1, 2), "", rtp.ErrShort},
		{"padding of zero", first(0xA0, 1, 2, 0), "", rtp.ErrPadding},
		{"padding beyond payload", first(0xA0, 1, 2, 9), "", rtp.ErrPadding},
		{"padding without payload", first(0xA0), "", rtp.ErrPadding},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p rtp.Packet
			if err := rtp.Parse(tt.data, &p); !errors.Is(err, tt.err) {
				t.Fatalf("err = %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			if string(p.Payload) != tt.payload {
				t.Errorf("payload = %q, want %q", p.Payload, tt.payload)
			}
			if !p.Marker || p.PayloadType != 101 || p.Sequence != 0x1234 || p.Timestamp != 0x01020304 || p.SSRC != 0x05060708 {
				t.Errorf("header = %+v", p)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xFF})
	f.Add([]byte{0xB2, 101, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0xBE, 0xDE, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p rtp.Packet
		if rtp.Parse(data, &p) != nil {
			return
		}
		again := make([]byte, rtp.HeaderSize, rtp.HeaderSize+len(p.Payload))
		rtp.PutHeader(again, &p)
		var q rtp.Packet
		if err := rtp.Parse(append(again, p.Payload...), &q); err != nil {
			t.Fatalf("own header does not parse: %v", err)
		}
		if !bytes.Equal(p.Payload, q.Payload) {
			t.Fatal("payload changed")
		}
		p.Payload, q.Payload = nil, nil
		if p.Marker != q.Marker || p.PayloadType != q.PayloadType || p.Sequence != q.Sequence || p.Timestamp != q.Timestamp || p.SSRC != q.SSRC {
			t.Fatalf("%+v became %+v", p, q)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := make([]byte, 172)
	data[0] = 0x80
	var p rtp.Packet
	b.ReportAllocs()
	for b.Loop() {
		if err := rtp.Parse(data, &p); err != nil {
			b.Fatal(err)
		}
	}
}
