package redisx

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// parse reads the URL by hand as far as its list of hosts, which net/url does
// not accept, and leaves the rest to go-redis.
func parse(raw string) (target, error) {
	if name, ok := strings.CutPrefix(raw, "embedded:"); ok {
		name = strings.TrimPrefix(name, "//")
		return target{embedded: &name}, nil
	}
	p, err := split(raw)
	if err != nil {
		return target{}, err
	}
	scheme, kind, _ := strings.Cut(p.scheme, "+")
	if scheme != "redis" && scheme != "rediss" && p.scheme != "unix" {
		return target{}, fmt.Errorf("unknown scheme %q: use embedded:, redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://", p.scheme)
	}
	switch kind {
	case "":
		if len(p.hosts) > 1 {
			return target{}, errors.New("several hosts: use redis+cluster:// or redis+sentinel://")
		}
		o, err := redis.ParseURL(raw)
		if err != nil {
			return target{}, plain(err)
		}
		return target{single: o}, nil
	case "cluster":
		if strings.Trim(p.path, "/") != "" {
			return target{}, errors.New("a cluster has no numbered databases: drop the path")
		}
		o, err := redis.ParseClusterURL(p.build(scheme, p.userinfo, p.query))
		if err != nil {
			return target{}, plain(err)
		}
		return target{cluster: o}, nil
	case "sentinel":
		o, err := p.sentinel(scheme)
		if err != nil {
			return target{}, err
		}
		return target{sentinel: o}, nil
	default:
		return target{}, fmt.Errorf("unknown kind %q after the scheme: use +cluster or +sentinel", kind)
	}
}

// parts are the pieces of scheme://userinfo@host,host/path?query.
type parts struct {
	scheme, userinfo, path string
	hosts                  []string
	query                  url.Values
}

func split(raw string) (parts, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return parts{}, errors.New("no scheme: use embedded:, redis://host:port or redis+cluster://host,host")
	}
	p := parts{scheme: strings.ToLower(scheme)}
	rest, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return parts{}, errors.New("malformed query")
	}
	p.query = values
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, p.path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		p.userinfo, authority = authority[:i], authority[i+1:]
	}
	p.hosts = strings.Split(authority, ",")
	for i, h := range p.hosts {
		if p.hosts[i] = strings.TrimSpace(h); p.hosts[i] == "" && p.scheme != "unix" {
			return parts{}, errors.New("an empty host name")
		}
	}
	return p, nil
}

// build writes the form that go-redis' parsers know: the first host in its
// place, the others as addr parameters.
func (p parts) build(scheme, userinfo string, query url.Values) string {
	var b strings.Builder
	b.WriteString(scheme + "://")
	if userinfo != "" {
		b.WriteString(userinfo + "@")
	}
	b.WriteString(p.hosts[0] + p.path)
	more := url.Values{}
	for k, v := range query {
		more[k] = v
	}
	for _, h := range p.hosts[1:] {
		if !hasPort(h) {
			h += ":" + p.defaultPort()
		}
		more.Add("addr", h)
	}
	if len(more) > 0 {
		b.WriteString("?" + more.Encode())
	}
	return b.String()
}

func (p parts) defaultPort() string {
	if strings.HasSuffix(p.scheme, "+sentinel") {
		return "26379"
	}
	return "6379"
}

// hasPort is true of h:1 and [::1]:1, false of h and [::1].
func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

// sentinel swaps the credentials: go-redis takes the sentinels' from the
// userinfo and the master's from the query, but it is the master's that
// everybody has.
func (p parts) sentinel(scheme string) (*redis.FailoverOptions, error) {
	master := p.query.Get("master")
	if master == "" {
		return nil, errors.New("no master: add ?master=<name>")
	}
	q := url.Values{}
	for k, v := range p.query {
		q[k] = v
	}
	guard := ""
	if pw := q.Get("sentinel_password"); pw != "" {
		guard = url.UserPassword(q.Get("sentinel_username"), pw).String()
	}
	q.Del("master")
	q.Del("sentinel_username")
	q.Del("sentinel_password")
	q.Set("master_name", master)
	if p.userinfo != "" {
		user, password, _ := strings.Cut(p.userinfo, ":")
		for key, text := range map[string]string{"username": user, "password": password} {
			clear, err := url.PathUnescape(text)
			if err != nil {
				return nil, errors.New("malformed user or password")
			}
			if clear != "" {
				q.Set(key, clear)
			}
		}
	}
	if !hasPort(p.hosts[0]) {
		p.hosts[0] += ":" + p.defaultPort()
	}
	o, err := redis.ParseFailoverURL(p.build(scheme, guard, q))
	if err != nil {
		return nil, plain(err)
	}
	return o, nil
}

// plain drops the URL, and with it the password, from errors of net/url.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Redact returns url without its password, fit for a log or an error.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		if strings.HasPrefix(raw, "embedded:") {
			return raw
		}
		return "(malformed)"
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	end := strings.IndexByte(rest, '/')
	// A password may hold an unescaped slash: then the @ comes after it.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		if end >= 0 && end < len(user) {
			user = ""
		}
		rest = user + ":***" + rest[at:]
	}
	if hasQuery {
		values, err := url.ParseQuery(query)
		if err != nil {
			return scheme + "://" + rest + "?(malformed)"
		}
		for k := range values {
			if strings.Contains(k, "password") {
				values.Set(k, "***")
			}
		}
		rest += "?" + strings.ReplaceAll(values.Encode(), "%2A%2A%2A", "***")
	}
	return scheme + "://" + rest
}
