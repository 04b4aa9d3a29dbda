package openapi

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func load(t *testing.T) *Document {
	t.Helper()
	d, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOperations(t *testing.T) {
	want := []string{
		"DELETE /mediaservice/{domain}/promptfile/{filename}",
		"DELETE /{domain}/promptfile/{filename}",
		"GET /calls/{domain}/sessions/{token}",
		"GET /mediaservice/{domain}/promptfile",
		"GET /mediaservice/{domain}/promptfile/{filename}",
		"GET /{domain}/promptfile",
		"GET /{domain}/promptfile/{filename}",
		"POST /mediaservice/{domain}/hangupcall",
		"POST /mediaservice/{domain}/hangupcalljwt",
		"POST /mediaservice/{domain}/interruptivrcommand",
		"POST /{domain}/hangupcall",
		"POST /{domain}/hangupcalljwt",
		"POST /{domain}/interruptivrcommand",
		"PUT /mediaservice/{domain}/promptfile/{filename}",
		"PUT /{domain}/promptfile/{filename}",
	}
	if got := load(t).Operations(); !slices.Equal(got, want) {
		t.Errorf("operations\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMethods(t *testing.T) {
	d := load(t)
	for path, want := range map[string]string{
		"/mediaservice/a.test/promptfile/x": "DELETE,GET,PUT",
		"/a.test/promptfile":                "GET",
		"/promptfile/promptfile":            "",
		"/a.test/promptfile/":               "",
		"/10.0/promptfile":                  "",
		"/mediaservice/a.test/none":         "",
		"/calls/a.test/sessions/x":          "GET",
		"/":                                 "",
	} {
		if got := strings.Join(d.Methods(path), ","); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestDocumentIsWhole(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "api.test"}
	text, err := load(t).JSON(base)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Swagger             string
		Definitions         map[string]any
		SecurityDefinitions map[string]any
		Security            []any
		Tags                []struct{ Name string }
		Paths               map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Swagger != "2.0" || len(doc.Security) != 1 || doc.SecurityDefinitions["key"] == nil {
		t.Errorf("swagger %s, security %v", doc.Swagger, doc.Security)
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operation id %q is missing or taken", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Responses["default"] == nil || op.Responses["200"] == nil {
				t.Errorf("%s %s: responses %v", method, path, op.Responses)
			}
		}
	}
	var tags []string
	for _, tag := range doc.Tags {
		tags = append(tags, tag.Name)
	}
	slices.Sort(tags)
	if !slices.Equal(tags, []string{"Calls", "PromptFiles", "Sessions"}) {
		t.Errorf("tags %v", tags)
	}
	for _, wrong := range []string{`"format":"int64","type":"string"`, "protobufAny", "rpcStatus"} {
		if strings.Contains(string(text), wrong) {
			t.Errorf("the document has %s", wrong)
		}
	}
	for _, ref := range strings.Split(string(text), `"$ref":"#/definitions/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Definitions[name] == nil {
			t.Errorf("%s is referred to and not defined", name)
		}
	}
}
