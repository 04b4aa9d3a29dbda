package openapi

import (
	"slices"
	"strings"
)

// route is one path of the document with its methods.
type route struct {
	segments []string
	methods  []string
}

// Methods returns the methods that the escaped path answers to, in order; none
// if there is no such path.
func (d *Document) Methods(path string) []string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var methods []string
	for _, r := range d.routes {
		if r.matches(segments) {
			methods = append(methods, r.methods...)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (r route) matches(segments []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, want := range r.segments {
		if !strings.HasPrefix(want, "{") {
			if segments[i] != want {
				return false
			}
			continue
		}
		if segments[i] == "" || (i == 0 && !IsDomain(segments[i])) {
			return false
		}
	}
	return true
}

// IsDomain tells a tenant's name from a fixed first segment: a domain name
// holds a dot and is never all digits (contract §0).
func IsDomain(segment string) bool {
	return strings.Contains(segment, ".") && strings.Trim(segment, ".0123456789") != ""
}

// Template returns the path of the document that the escaped path belongs to;
// "" if there is none.
func (d *Document) Template(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, r := range d.routes {
		if r.matches(segments) {
			return "/" + strings.Join(r.segments, "/")
		}
	}
	return ""
}

// Operations returns every method and path of the document, in order.
func (d *Document) Operations() []string {
	var ops []string
	for _, r := range d.routes {
		for _, m := range r.methods {
			ops = append(ops, m+" /"+strings.Join(r.segments, "/"))
		}
	}
	slices.Sort(ops)
	return ops
}
