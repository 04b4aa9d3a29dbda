package dialguard_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"code.dny.dev/ssrf"

	"github.com/callmesh/callmesh/kit/dialguard"
)

func TestControl(t *testing.T) {
	public := dialguard.Control(false, nil)
	private := dialguard.Control(true, nil)
	allowed := dialguard.Control(false, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")})
	for _, c := range []struct {
		host                     string
		public, private, allowed bool
	}{
		{"93.184.216.34", true, true, true},
		{"2606:4700::1", true, true, true},
		{"127.0.0.1", false, true, false},
		{"10.1.2.3", false, true, true},
		{"10.2.2.3", false, true, false},
		{"192.168.0.1", false, true, false},
		{"100.64.0.1", false, true, false},
		{"::1", false, true, false},
		{"fd00:1::1", false, true, true},
		{"169.254.169.254", false, false, false},
		{"fe80::1", false, false, false},
		{"0.0.0.0", false, false, false},
		{"224.0.0.1", false, false, false},
		{"255.255.255.255", false, false, false},
	} {
		network := "tcp4"
		if netip.MustParseAddr(c.host).Is6() {
			network = "tcp6"
		}
		for name, want := range map[string]bool{"public": c.public, "private": c.private, "allowed": c.allowed} {
			control := map[string]func(string, string) error{
				"public":  func(n, a string) error { return public(n, a, nil) },
				"private": func(n, a string) error { return private(n, a, nil) },
				"allowed": func(n, a string) error { return allowed(n, a, nil) },
			}[name]
			err := control(network, net.JoinHostPort(c.host, "443"))
			if want != (err == nil) || err != nil && !errors.Is(err, ssrf.ErrProhibitedIP) {
				t.Errorf("%s, %s: %v", name, c.host, err)
			}
		}
	}
}
