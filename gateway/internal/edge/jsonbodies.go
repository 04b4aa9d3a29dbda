package edge

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	"github.com/callmesh/callmesh/gateway/internal/format"
	"github.com/callmesh/callmesh/kit/fault"
)

// jsonBodies lets a mux read and write by a family's codec.
type jsonBodies struct{ codec *format.Codec }

func (jsonBodies) ContentType(any) string { return "application/json" }

func (j jsonBodies) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("edge: %T is no message", v)
	}
	return j.codec.Append(make([]byte, 0, 1024), m.ProtoReflect())
}

func (j jsonBodies) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("edge: %T is no message", v)
	}
	return j.codec.Decode(data, m.ProtoReflect())
}

func (j jsonBodies) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			err = unreadable(err)
		} else {
			err = j.Unmarshal(data, v)
		}
		if b, ok := r.(*body); ok && err != nil {
			b.fault = fault.From(err)
		}
		return err
	})
}

func unreadable(err error) error {
	if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "request body is larger than %d bytes", big.Limit)
	}
	return fault.New(fault.BadRequest, "request body ended early").Because(err)
}

func (j jsonBodies) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := j.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}
