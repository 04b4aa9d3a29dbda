// Package openapi is the description of the REST surface: what the generator
// makes of rest.yaml, put right where our JSON differs from protojson, plus the
// streamed routes. What it lists is also what the edge answers 405 and OPTIONS
// from.
package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

var (
	//go:embed families.swagger.json
	generated []byte
	//go:embed overlay.json
	overlay []byte
)

type object = map[string]any

// Document is the OpenAPI 2.0 description of all families.
type Document struct {
	root   object
	routes []route
}

// Load returns the document.
func Load() (*Document, error) {
	var root, over object
	if err := json.Unmarshal(generated, &root); err != nil {
		return nil, fmt.Errorf("openapi: generated document: %w", err)
	}
	if err := json.Unmarshal(overlay, &over); err != nil {
		return nil, fmt.Errorf("openapi: overlay: %w", err)
	}
	merge(root, over)
	definitions, ok := root["definitions"].(object)
	if !ok {
		return nil, fmt.Errorf("openapi: generated document has no definitions")
	}
	definitions["v1RawJson"] = object{"description": "Any JSON value."}
	delete(definitions, "protobufAny")
	fixNumbers(root)
	paths, ok := root["paths"].(object)
	if !ok {
		return nil, fmt.Errorf("openapi: generated document has no paths")
	}
	bare(paths)
	d := &Document{root: root}
	used := make(map[string]bool)
	for path, item := range paths {
		r := route{segments: strings.Split(path, "/")[1:]}
		for method, op := range item.(object) {
			r.methods = append(r.methods, strings.ToUpper(method))
			describe(path, op.(object), used)
		}
		slices.Sort(r.methods)
		d.routes = append(d.routes, r)
	}
	pruneTags(root, used)
	return d, nil
}

// merge lays over onto base; what is no object in both is replaced.
func merge(base, over object) {
	for key, v := range over {
		below, ok1 := base[key].(object)
		above, ok2 := v.(object)
		if ok1 && ok2 {
			merge(below, above)
			continue
		}
		base[key] = v
	}
}

// fixNumbers turns protojson's strings of 64 bits into the numbers we write.
func fixNumbers(v any) {
	switch v := v.(type) {
	case object:
		if f := v["format"]; v["type"] == "string" && (f == "int64" || f == "uint64") {
			v["type"], v["format"] = "integer", "int64"
		}
		for _, child := range v {
			fixNumbers(child)
		}
	case []any:
		for _, child := range v {
			fixNumbers(child)
		}
	}
}

const prefix = "/mediaservice"

// bare gives the streamed routes their second path, as rest.yaml does for the
// others (contract §0).
func bare(paths object) {
	for path, item := range maps.Clone(paths) {
		short, ok := strings.CutPrefix(path, prefix+"/")
		if !ok {
			continue
		}
		short = "/" + short
		twin, ok := paths[short].(object)
		if !ok {
			twin = object{}
			paths[short] = twin
		}
		for method, op := range item.(object) {
			if _, ok := twin[method]; ok {
				continue
			}
			copied := maps.Clone(op.(object))
			copied["operationId"] = fmt.Sprint(copied["operationId"], "Bare")
			twin[method] = copied
		}
	}
}

// describe adds to an operation what holds for its whole family.
func describe(path string, op object, used map[string]bool) {
	shape := "MediaserviceError"
	if strings.HasPrefix(path, "/calls/") {
		shape = "CloudonixError"
	}
	responses := maps.Clone(op["responses"].(object))
	if ok, is := responses["200"].(object); is && ok["description"] == "" {
		ok["description"] = "A successful response."
	}
	responses["default"] = object{"description": "What went wrong.", "schema": object{"$ref": "#/definitions/" + shape}}
	op["responses"] = responses
	tags, _ := op["tags"].([]any)
	for _, tag := range tags {
		used[fmt.Sprint(tag)] = true
	}
}

// pruneTags drops the services that have no REST side.
func pruneTags(root object, used map[string]bool) {
	tags, _ := root["tags"].([]any)
	root["tags"] = slices.DeleteFunc(tags, func(tag any) bool {
		t, ok := tag.(object)
		return !ok || !used[fmt.Sprint(t["name"])]
	})
}

// JSON returns the document as seen from clients that reach us at base.
func (d *Document) JSON(base *url.URL) ([]byte, error) {
	root := maps.Clone(d.root)
	root["host"] = base.Host
	root["schemes"] = []string{base.Scheme}
	root["basePath"] = "/" + strings.Trim(base.Path, "/")
	text, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return text, nil
}
