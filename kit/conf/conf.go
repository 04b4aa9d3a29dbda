// Package conf loads a daemon's configuration: one strict YAML file over the
// defaults, and CALLMESH_… environment variables over both.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads the file at path (none if empty) over defaults and then the
// environment. Errors name the file, the line and the key, or the variable.
func Load[T any](path string, environ []string, defaults T) (T, error) {
	cfg := defaults
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return cfg, fmt.Errorf("config: %w", err)
		}
		if err := decode(text, &cfg); err != nil {
			return cfg, fmt.Errorf("config %s: %w", path, err)
		}
	}
	if err := override(reflect.ValueOf(&cfg).Elem(), "CALLMESH", index(environ)); err != nil {
		return cfg, fmt.Errorf("config: %w", err)
	}
	return cfg, nil
}

func decode(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil // an empty file sets nothing
	}
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		lines := make([]string, len(types.Errors))
		for i, text := range types.Errors {
			lines[i] = plain(text)
		}
		return errors.New(strings.Join(lines, "; "))
	}
	return err
}

// unknown is how the decoder words a key that the configuration does not have.
var unknown = regexp.MustCompile(`^line (\d+): field (\S+) not found in type .*$`)

// plain drops the Go type names, which say nothing to an operator.
func plain(text string) string {
	if m := unknown.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("line %s: unknown key %q", m[1], m[2])
	}
	return text
}

func index(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "CALLMESH_") {
			vars[name] = value
		}
	}
	return vars
}

// override sets every field that has a variable named after its path:
// rest.listen is CALLMESH_REST_LISTEN. The value is read as YAML, so lists and
// nested values work: CALLMESH_SIP_LISTEN='["udp:127.0.0.1:5060"]'.
func override(v reflect.Value, prefix string, vars map[string]string) error {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		key, opts, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || key == "-" {
			continue
		}
		name := prefix
		if opts != "inline" {
			if key == "" {
				key = strings.ToLower(field.Name)
			}
			name += "_" + strings.ToUpper(key)
		}
		if text, ok := vars[name]; ok {
			if err := set(v.Field(i), text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		_, custom := v.Field(i).Addr().Interface().(yaml.Unmarshaler)
		if field.Type.Kind() == reflect.Struct && !custom {
			if err := override(v.Field(i), name, vars); err != nil {
				return err
			}
		}
	}
	return nil
}

func set(v reflect.Value, text string) error {
	if v.Kind() == reflect.String {
		v.SetString(text) // as it is: a key may look like a number
		return nil
	}
	return decode([]byte(text), v.Addr().Interface())
}
