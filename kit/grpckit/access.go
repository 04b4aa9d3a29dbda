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
	// unscoped leaves the check of the domain to the handler.
	unscoped bool
}

// Services lets the named daemons call.
func Services(names ...string) Access { return Access{services: names} }

// Roles lets principals with one of the roles call, for the domains that they
// cover: if the request has a domain field, the principal must cover it.
func Roles(names ...string) Access { return Access{roles: names} }

// Unscoped leaves it to the handler to check that the principal covers the
// domain: where a request may name one otherwise than by its name.
func (a Access) Unscoped() Access { a.unscoped = true; return a }

// Or returns the union of two accesses.
func (a Access) Or(b Access) Access {
	return Access{
		services: append(append([]string(nil), a.services...), b.services...),
		roles:    append(append([]string(nil), a.roles...), b.roles...),
		anyone:   a.anyone || b.anyone,
		unscoped: a.unscoped || b.unscoped,
	}
}

// anyone is for health and reflection alone.
func anyone() Access { return Access{anyone: true} }

// domainScoped is what requests about one domain have in common.
type domainScoped interface{ GetDomain() string }

// Covers is nil if the principal may speak for the domain, and DOMAIN_FORBIDDEN
// otherwise.
func Covers(p principal.Principal, domain string) error {
	if p.Covers(domain) {
		return nil
	}
	// The domain is not named: it may have been found by its number.
	return fault.New(fault.DomainForbidden, "credential is not valid for this domain").On("domain")
}

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
	if scoped, ok := req.(domainScoped); ok && !a.unscoped {
		return Covers(p, scoped.GetDomain())
	}
	return nil
}
