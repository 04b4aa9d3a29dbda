// Package dialguard keeps connections that customers ask for, to callbacks and
// phrases, off addresses that are not for them.
package dialguard

import (
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// Control is a net.Dialer's Control that admits public addresses, those of
// allow and, with private, loopback and private networks. All others,
// link-local ones among them, fail with an error of package ssrf. It sees the
// address that is connected to, after name resolution: a name may resolve
// differently a moment after any check of it.
func Control(private bool, allow []netip.Prefix) func(network, address string, c syscall.RawConn) error {
	if private {
		allow = append(inside(), allow...)
	}
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithNetworks("tcp4", "tcp6"),
		ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)).Safe
}

// inside are the networks that private admits. Link-local addresses are not
// among them: clouds keep their credentials there (169.254.169.254).
func inside() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
