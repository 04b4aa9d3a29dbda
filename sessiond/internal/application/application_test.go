package application

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"log/slog"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/webhook"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
)

// tenant is a directory of one domain, whose application has no secrets.
type tenant struct{}

func (tenant) Domain(name string) (*directorypb.Domain, bool) {
	return &directorypb.Domain{Name: name, Application: &directorypb.Application{AllowPrivate: true}}, name == "a.test"
}

// What an operator may mend within days is tried again; what is accepted at
// more length than we read is delivered; a domain that is gone ends it.
func TestWhatANotificationIsTriedAgainFor(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/unauthorised":
			w.WriteHeader(http.StatusUnauthorized)
		case "/moved":
			http.Redirect(w, r, "/fine", http.StatusFound)
		case "/long":
			_, _ = w.Write(make([]byte, 2<<20)) // the client stops reading
		}
	}))
	defer server.Close()
	hooks, err := webhook.New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), webhook.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()
	c := New(hooks, nil, tenant{}, nil)
	permanent := func(err error) bool { return err != nil && lane.IsPermanent(err) }
	for name, tc := range map[string]struct {
		domain, url       string
		fails, isTheirEnd bool
	}{
		"accepted":             {domain: "a.test", url: server.URL + "/fine"},
		"accepted at length":   {domain: "a.test", url: server.URL + "/long"},
		"not deployed":         {domain: "a.test", url: server.URL + "/missing", fails: true},
		"a wrong credential":   {domain: "a.test", url: server.URL + "/unauthorised", fails: true},
		"a redirect":           {domain: "a.test", url: server.URL + "/moved", fails: true},
		"no URL":               {domain: "a.test", url: "nonsense", fails: true, isTheirEnd: true},
		"a domain that is not": {domain: "gone.test", url: server.URL + "/fine", fails: true, isTheirEnd: true},
	} {
		err := c.Send(context.WithoutCancel(t.Context()), lane.Delivery{Entry: lane.Entry{
			ID: "1", Session: uuid.New(), Domain: tc.domain, URL: tc.url, Kind: lane.SessionCompleted, Body: []byte("{}"),
		}})
		if (err != nil) != tc.fails || permanent(err) != tc.isTheirEnd {
			t.Errorf("%s: %v, permanent %v", name, err, permanent(err))
		}
	}
}
