package directory

import (
	"crypto/md5" //nolint:gosec // HA1 is MD5 by RFC 2617; it is not our choice
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// Domain is a tenant in the configuration file.
type Domain struct {
	Name        string       `yaml:"name"`
	Numbers     []string     `yaml:"numbers"`
	Application Application  `yaml:"application"`
	Keys        []Key        `yaml:"keys"`
	Subscribers []Subscriber `yaml:"subscribers"`
	Trunks      []Trunk      `yaml:"trunks"`
	// Number is the domain's numeric id for the APIs that want one.
	Number int64 `yaml:"number"`
}

// Application is the customer's web application.
type Application struct {
	URL    string `yaml:"url"`
	Alarms string `yaml:"alarms"`
	// AllowPrivate lets callbacks go to private and loopback addresses.
	AllowPrivate   bool          `yaml:"allowPrivate"`
	Fallback       Fallback      `yaml:"fallback"`
	SiteID         string        `yaml:"siteId"`
	SiteBaseURL    string        `yaml:"siteBaseUrl"`
	Auth           Auth          `yaml:"auth"`
	SigningKey     string        `yaml:"signingKey"`
	Timeout        time.Duration `yaml:"timeout"`
	MediaserviceID string        `yaml:"mediaserviceId"`
}

// Auth is how we authenticate to the application.
type Auth struct {
	// Scheme is basic, bearer or empty.
	Scheme string `yaml:"scheme"`
	User   string `yaml:"user"`
	Secret string `yaml:"secret"`
}

// Fallback is the emergency fallback (contract §1.12).
type Fallback struct {
	Action   string `yaml:"action"`
	DestAddr string `yaml:"destAddr"`
	Prompt   string `yaml:"prompt"`
	Always   bool   `yaml:"always"`
}

// Key is an API credential of the domain.
type Key struct {
	ID     string   `yaml:"id"`
	Secret string   `yaml:"secret"`
	Roles  []string `yaml:"roles"`
}

// Subscriber is a phone that registers.
type Subscriber struct {
	User     string `yaml:"user"`
	Password string `yaml:"password"`
}

// Trunk is a carrier.
type Trunk struct {
	Name     string   `yaml:"name"`
	URI      string   `yaml:"uri"`
	Prefixes []string `yaml:"prefixes"`
}

// Sealer encrypts secrets that must be read again.
type Sealer interface {
	Seal(plain []byte, context string) []byte
}

// Read checks the domains of a configuration and returns them as the directory
// keeps them. Errors name the key at fault.
func Read(domains []Domain, seal Sealer) ([]*directorypb.Domain, error) {
	out := make([]*directorypb.Domain, len(domains))
	names, numbers := map[string]bool{}, map[string]string{}
	for i, d := range domains {
		at := fmt.Sprintf("domains[%d]", i)
		name := strings.ToLower(d.Name)
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%s.name: %w", at, err)
		}
		if names[name] {
			return nil, fmt.Errorf("%s.name: %s occurs twice", at, name)
		}
		names[name] = true
		for j, n := range d.Numbers {
			if owner, taken := numbers[n]; taken {
				return nil, fmt.Errorf("%s.numbers[%d]: %s belongs to %s already", at, j, n, owner)
			}
			numbers[n] = name
		}
		pb, err := d.read(name, at, seal)
		if err != nil {
			return nil, err
		}
		out[i] = pb
	}
	return out, unambiguous(out)
}

// unambiguous numbers the domains that have no number, and refuses what would
// lead to two domains at once.
func unambiguous(domains []*directorypb.Domain) error {
	byNumber, byKey := map[int64]string{}, map[string]string{}
	for i, d := range domains {
		if d.GetNumber() != 0 && byNumber[d.GetNumber()] != "" {
			return fmt.Errorf("domains[%d].number: %d belongs to %s already", i, d.GetNumber(), byNumber[d.GetNumber()])
		}
		byNumber[d.GetNumber()] = d.GetName()
		for j, k := range d.GetKeys() {
			if owner := byKey[string(k.GetKeySha256())]; owner != "" {
				return fmt.Errorf("domains[%d].keys[%d]: the secret is that of a key of %s", i, j, owner)
			}
			byKey[string(k.GetKeySha256())] = d.GetName()
		}
	}
	next := int64(1)
	for _, d := range domains {
		if d.GetNumber() != 0 {
			continue
		}
		for byNumber[next] != "" {
			next++
		}
		d.Number, byNumber[next] = next, d.GetName()
	}
	return nil
}

// checkName holds names to what keeps URL paths unambiguous (contract §0).
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is missing")
	case !strings.Contains(name, "."):
		return fmt.Errorf("%q must contain a dot", name)
	case strings.Trim(name, "0123456789.") == "":
		return fmt.Errorf("%q must not be all digits", name)
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || len(name) > 253:
		return fmt.Errorf("%q is not a domain name", name)
	}
	return nil
}

func (d Domain) read(name, at string, seal Sealer) (*directorypb.Domain, error) {
	app, err := d.Application.read(name, at+".application", seal)
	if err != nil {
		return nil, err
	}
	out := &directorypb.Domain{Name: name, Numbers: d.Numbers, Application: app, Number: d.Number}
	for i, k := range d.Keys {
		if k.ID == "" || len(k.Secret) < 8 {
			return nil, fmt.Errorf("%s.keys[%d]: id and a secret of at least 8 characters are needed", at, i)
		}
		sum := sha256.Sum256([]byte(k.Secret))
		out.Keys = append(out.Keys, &directorypb.Key{Id: k.ID, KeySha256: sum[:], Roles: k.Roles})
	}
	for i, s := range d.Subscribers {
		if s.User == "" {
			return nil, fmt.Errorf("%s.subscribers[%d].user: is missing", at, i)
		}
		out.Subscribers = append(out.Subscribers, &directorypb.Subscriber{User: s.User, Ha1: ha1(s.User, name, s.Password)})
	}
	for i, t := range d.Trunks {
		if t.Name == "" || !strings.HasPrefix(t.URI, "sip") {
			return nil, fmt.Errorf("%s.trunks[%d]: name and a sip: uri are needed", at, i)
		}
		out.Trunks = append(out.Trunks, &directorypb.Trunk{Name: t.Name, Uri: t.URI, Prefixes: t.Prefixes})
	}
	return out, nil
}

func (a Application) read(domain, at string, seal Sealer) (*directorypb.Application, error) {
	for key, text := range map[string]string{"url": a.URL, "alarms": a.Alarms} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%s.%s: %q is not an http or https URL", at, key, text)
		}
	}
	switch a.Fallback.Action {
	case "":
		if a.Fallback.Always {
			return nil, fmt.Errorf("%s.fallback.always: needs an action", at)
		}
	case "drop", "ivr":
	case "call":
		return nil, fmt.Errorf("%s.fallback.action: call is not available in this version", at)
	default:
		return nil, fmt.Errorf("%s.fallback.action: %q is none of drop, ivr", at, a.Fallback.Action)
	}
	if a.Auth.Scheme != "" && a.Auth.Scheme != "basic" && a.Auth.Scheme != "bearer" {
		return nil, fmt.Errorf("%s.auth.scheme: %q is none of basic, bearer", at, a.Auth.Scheme)
	}
	out := &directorypb.Application{
		Url: strings.TrimSuffix(a.URL, "/"), Alarms: a.Alarms, AllowPrivate: a.AllowPrivate,
		Fallback: &directorypb.Fallback{Action: a.Fallback.Action, DestAddr: a.Fallback.DestAddr, Prompt: a.Fallback.Prompt, Always: a.Fallback.Always},
		SiteId:   a.SiteID, SiteBaseUrl: a.SiteBaseURL, AuthScheme: a.Auth.Scheme, AuthUser: a.Auth.User,
		QuestionTimeoutMs: a.Timeout.Milliseconds(), MediaserviceId: a.MediaserviceID,
	}
	if a.Auth.Secret != "" {
		out.AuthSecret = seal.Seal([]byte(a.Auth.Secret), AuthContext(domain))
	}
	if a.SigningKey != "" {
		out.SigningKey = seal.Seal([]byte(a.SigningKey), SigningContext(domain))
	}
	return out, nil
}

// AuthContext is the context under which a domain's outgoing secret is sealed.
func AuthContext(domain string) string { return domain + "/auth" }

// SigningContext is the same for its signing key.
func SigningContext(domain string) string { return domain + "/signing" }

func ha1(user, realm, password string) string {
	sum := md5.Sum([]byte(user + ":" + realm + ":" + password)) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}
