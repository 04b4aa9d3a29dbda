package grpckit

import (
	"context"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
)

// Access names who may call a method. The zero Access lets nobody in.
type Access struct {
	services []string
	roles    []string
	anyone   bool
}

// Services lets the named daemons call.
func Services(names ...string) Access { return Access{services: names} }

// Roles lets principals with one of the roles call, for the domains that they
// cover: if the request has a domain field, the principal must cover it.
func Roles(names ...string) Access { return Access{roles: names} }

// Or returns the union of two accesses.
func (a Access) Or(b Access) Access {
	return Access{
		services: append(append([]string(nil), a.services...), b.services...),
		roles:    append(append([]string(nil), a.roles...), b.roles...),
		anyone:   a.anyone || b.anyone,
	}
}

// anyone is for health and reflection alone.
func anyone() Access { return Access{anyone: true} }

// domainScoped is what requests about one domain have in common.
type domainScoped interface{ GetDomain() string }

func (a Access) check(ctx context.Context, req any) error {
	if a.anyone {
		return nil
	}
	p := principal.From(ctx)
	if p.Subject == "" && p.Service == "" {
		return fault.New(fault.Unauthenticated, "credential is missing or invalid")
	}
	if p.Service != "" {
		for _, name := range a.services {
			if name == p.Service {
				return nil
			}
		}
		return fault.New(fault.Forbidden, "not allowed")
	}
	if !p.HasRole(a.roles...) {
		return fault.New(fault.Forbidden, "not allowed")
	}
	if scoped, ok := req.(domainScoped); ok && !p.Covers(scoped.GetDomain()) {
		return fault.New(fault.DomainForbidden, "credential is not valid for domain %s", scoped.GetDomain()).On("domain")
	}
	return nil
}
