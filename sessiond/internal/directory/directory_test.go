package directory

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/redistest"
)

type plainSeal struct{}

func (plainSeal) Seal(plain []byte, context string) []byte {
	return append([]byte(context+":"), plain...)
}

func TestDomainsAreFoundByNameNumberAndKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := New(NewStore(rdb))
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := d.Route("1000", "demo.test"); ok {
			t.Fatal("an empty directory routes")
		}
		domains, err := Read([]Domain{
			{Name: "Demo.test", Numbers: []string{"1000", "+468"}, Keys: []Key{{ID: "k", Secret: "demo-secret", Roles: []string{"domain"}}}},
			{Name: "other.test", Numbers: []string{"2000"}},
		}, plainSeal{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.store.Replace(t.Context(), domains...); err != nil {
			t.Fatal(err)
		}
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ user, host, want string }{
			{"1000", "127.0.0.1", "demo.test"}, {"+468", "sip.x", "demo.test"}, {"anyone", "DEMO.test", "demo.test"},
			{"2000", "demo.test", "demo.test"}, {"2000", "127.0.0.1", "other.test"}, {"3000", "127.0.0.1", ""},
		} {
			got, _ := d.Route(tc.user, tc.host)
			if got.GetName() != tc.want {
				t.Errorf("%s@%s is routed to %q, want %q", tc.user, tc.host, got.GetName(), tc.want)
			}
		}
		if got, ok := d.Numbered(2); !ok || got.GetName() != "other.test" {
			t.Errorf("domain 2 is %v", got)
		}
		sum := sha256.Sum256([]byte("demo-secret"))
		if domain, key, ok := d.Key(sum[:]); !ok || domain != "demo.test" || key.GetId() != "k" {
			t.Errorf("key: %s %v %v", domain, key, ok)
		}
		if _, _, ok := d.Key([]byte("demo-secret")); ok {
			t.Error("a key that is no hash was found")
		}
		// A domain that is configured no more is gone, with its numbers and keys.
		if err := d.store.Replace(t.Context(), domains[1]); err != nil {
			t.Fatal(err)
		}
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, named := d.Route("1000", "demo.test")
		if _, _, ok := d.Key(sum[:]); ok || named {
			t.Errorf("a removed domain is still there: key %v, route %v", ok, named)
		}
	})
}

func TestWrongDomainsAreNamed(t *testing.T) {
	for want, domains := range map[string][]Domain{
		"domains[0].name: is missing":                       {{}},
		`domains[0].name: "demo" must contain a dot`:        {{Name: "demo"}},
		`domains[0].name: "1.2" must not be all digits`:     {{Name: "1.2"}},
		"domains[1].name: a.test occurs twice":              {{Name: "a.test"}, {Name: "A.test"}},
		"domains[1].numbers[0]: 1 belongs to a.test":        {{Name: "a.test", Numbers: []string{"1"}}, {Name: "b.test", Numbers: []string{"1"}}},
		"domains[1].keys[0]: the secret is that of":         {{Name: "a.test", Keys: []Key{{ID: "k", Secret: "same-secret"}}}, {Name: "b.test", Keys: []Key{{ID: "l", Secret: "same-secret"}}}},
		"domains[1].number: 2 belongs to a.test":            {{Name: "a.test", Number: 2}, {Name: "b.test", Number: 2}},
		"domains[0].application.fallback.always":            {{Name: "a.test", Application: Application{Fallback: Fallback{Always: true}}}},
		"domains[0].application.url":                        {{Name: "a.test", Application: Application{URL: "ftp://x"}}},
		"domains[0].application.fallback.action":            {{Name: "a.test", Application: Application{Fallback: Fallback{Action: "fly"}}}},
		"domains[0].application.fallback.action: call is n": {{Name: "a.test", Application: Application{Fallback: Fallback{Action: "call"}}}},
		"domains[0].application.auth.scheme":                {{Name: "a.test", Application: Application{Auth: Auth{Scheme: "x"}}}},
		"domains[0].keys[0]":                                {{Name: "a.test", Keys: []Key{{ID: "k", Secret: "short"}}}},
		"domains[0].trunks[0]":                              {{Name: "a.test", Trunks: []Trunk{{Name: "t", URI: "http://x"}}}},
		"domains[0].subscribers[0].user":                    {{Name: "a.test", Subscribers: []Subscriber{{Password: "x"}}}},
	} {
		if _, err := Read(domains, plainSeal{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestSecretsAreNotKeptInPlain(t *testing.T) {
	got, err := Read([]Domain{{
		Name: "a.test", Keys: []Key{{ID: "k", Secret: "key-secret"}}, Subscribers: []Subscriber{{User: "alice", Password: "wonderland"}},
		Application: Application{Auth: Auth{Scheme: "basic", User: "u", Secret: "s"}},
	}}, plainSeal{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got[0].String(), "key-secret") || strings.Contains(got[0].String(), "wonderland") {
		t.Error("a secret shows")
	}
	if !bytes.Equal(got[0].GetApplication().GetAuthSecret(), []byte("a.test/auth:s")) {
		t.Errorf("auth secret %q", got[0].GetApplication().GetAuthSecret())
	}
}
