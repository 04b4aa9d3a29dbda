package edge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/callmesh/callmesh/gateway"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/mesh"
	"github.com/callmesh/callmesh/kit/principal"
)

func dial(t *testing.T, h *house) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSlowClientsAreCutOff(t *testing.T) {
	h := open(t, func(c *gateway.Config) {
		c.Limits.HeaderTimeout = 50 * time.Millisecond
		c.Limits.BodyTimeout = 100 * time.Millisecond
	})
	for name, text := range map[string]string{
		"in its head": "GET /healthz HTTP/1.1\r\nHost: x\r\n",
		"in its body": "POST /mediaservice/" + domain + "/hangupcall HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-secret\r\nContent-Length: 100\r\n\r\n{",
	} {
		conn := dial(t, h)
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: not cut off: %v", name, err)
		}
	}
}

func TestLargeHeadIsRefused(t *testing.T) {
	h := open(t)
	status, _, _ := h.request(t, "GET", "/healthz", "", "", "X-Large", strings.Repeat("x", 64<<10))
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", status)
	}
}

func TestDrainLetsRequestsEnd(t *testing.T) {
	h := open(t)
	conn := dial(t, h)
	body := `{"replyId":"r"}`
	if _, err := fmt.Fprintf(conn, "POST /mediaservice/%s/hangupcall HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-secret\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", domain, len(body)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	// The server asks for the body: the request is under way.
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { h.stop(); close(stopped) }()
	// No new connections once it drains.
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("still listening")
		}
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || string(text) != `{"success":true}` || !resp.Close {
		t.Errorf("%d %s, %v, close %v", resp.StatusCode, text, err, resp.Close)
	}
	<-stopped
}

func TestHealthz(t *testing.T) {
	h := open(t)
	if status, _, body := h.request(t, "GET", "/healthz", "", ""); status != 200 || body != `{"status":"ok"}` {
		t.Errorf("%d %s", status, body)
	}
	h.stop()
	if strings.Contains(h.log.String(), "healthz") {
		t.Error("probes are in the log")
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	h := open(t)
	for i := range 5 {
		h.request(t, "GET", fmt.Sprintf("/calls/%s/sessions/%d", domain, i), "demo-secret", "")
		h.request(t, "GET", fmt.Sprintf("/docs/%d", i), "", "")
		h.request(t, "GET", fmt.Sprintf("/unknown/%d", i), "", "")
		h.request(t, fmt.Sprintf("M%d", i), "/mediaservice/"+domain+"/hangupcall", "", "")
	}
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var series []string
	for _, f := range families {
		if f.GetName() == "callmesh_gateway_request_seconds" {
			for _, m := range f.GetMetric() {
				series = append(series, m.String())
			}
		}
	}
	if len(series) != 4 {
		t.Errorf("%d series, want 4:\n%s", len(series), strings.Join(series, "\n"))
	}
}

func TestSpansNameTheRouteAndHideTheQuery(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTracerProvider(before); otel.SetTextMapPropagator(propagator) })
	h := open(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	h.request(t, "GET", "/mediaservice/"+domain+"/promptfile?next=query-secret", "demo-secret", "",
		"Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	h.request(t, "GET", "/healthz", "", "")
	h.stop()
	names := map[string]bool{}
	for _, s := range spans.Ended() {
		if got := s.SpanContext().TraceID().String(); got != trace {
			t.Errorf("span %s is in trace %s", s.Name(), got)
		}
		names[s.Name()] = true
		for _, a := range s.Attributes() {
			if strings.Contains(a.Value.String(), "secret") {
				t.Errorf("span %s shows %s=%s", s.Name(), a.Key, a.Value.String())
			}
		}
	}
	for _, want := range []string{"GET /mediaservice/{domain}/promptfile", "callmesh.mediaservice.v1.PromptFiles/ListPromptFiles"} {
		if !names[want] {
			t.Errorf("no span %s in %v", want, names)
		}
	}
}

func TestDocs(t *testing.T) {
	h := open(t)
	status, header, text := h.request(t, "GET", "/docs/openapi.json", "", "")
	var doc struct {
		Host    string
		Schemes []string
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", status, err)
	}
	if "http://"+doc.Host != h.url || len(doc.Schemes) != 1 || doc.Schemes[0] != "http" {
		t.Errorf("host %s, schemes %v", doc.Host, doc.Schemes)
	}
	if _, ok := doc.Paths["/mediaservice/{domain}/promptfile/{filename}"]["put"]; !ok {
		t.Error("uploads are not described")
	}
	_, header, page := h.request(t, "GET", "/docs/", "", "")
	if !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("policy %q", header.Get("Content-Security-Policy"))
	}
	// The page brings all it needs.
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(links) == 0 {
		t.Fatal("the page has no links")
	}
	for _, link := range links {
		if status, _, _ := h.request(t, "GET", "/docs/"+link[1], "", ""); status != 200 {
			t.Errorf("%s: %d", link[1], status)
		}
	}
	for path, want := range map[string]int{"/": 302, "/docs": 301, "/docs/none": 404, "/docs/../healthz": 404} {
		if status, _, _ := h.request(t, "GET", path, "", ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if status, header, _ := h.request(t, "POST", "/docs/", "", "x"); status != 405 || header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", status, header.Get("Allow"))
	}
}

func TestPublicURL(t *testing.T) {
	h := open(t, func(c *gateway.Config) { c.PublicURL = "https://api.example.test/voice/" })
	_, _, text := h.request(t, "GET", "/docs/openapi.json", "", "")
	for _, want := range []string{`"host":"api.example.test"`, `"schemes":["https"]`, `"basePath":"/voice"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %.200s", want, text)
		}
	}
}

func TestBadConfigs(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	signer, err := principal.NewSigner(bytes.Repeat([]byte{7}, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*gateway.Config){
		"every limit must be above zero":                   func(c *gateway.Config) { c.Limits.BodyBytes = 0 },
		`"ftp://x" is not an http`:                         func(c *gateway.Config) { c.PublicURL = "ftp://x" },
		"rest.listen: listen tcp " + taken.Addr().String(): func(c *gateway.Config) { c.Listen = taken.Addr().String() },
	} {
		cfg := gateway.Defaults()
		change(&cfg)
		parts, err := gateway.Parts(cfg, daemon.Env{
			Service: "gateway", Mesh: &mesh.Memory{}, Signer: signer, Log: slog.New(slog.DiscardHandler),
			Metrics: prometheus.NewRegistry(), Now: time.Now,
		})
		if err == nil {
			for _, p := range parts {
				if p.Name == "rest" {
					err = p.Start(t.Context())
				}
			}
			for _, p := range parts {
				if p.Name == "gateway peers" {
					_ = p.Stop(t.Context())
				}
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
