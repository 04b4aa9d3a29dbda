package mediad

import (
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/control"
	"github.com/callmesh/callmesh/mediad/internal/ports"
)

// Config of mediad, the `media` section of the all-in-one's file.
type Config struct {
	// Listen is the IPv4 address that RTP is bound to, Advertise the one put
	// into SDP: behind a one-to-one NAT they differ.
	Listen    string `yaml:"listen"`
	Advertise string `yaml:"advertise"`
	// Listen6 and Advertise6 are the same for IPv6; empty means no IPv6.
	Listen6    string `yaml:"listen6"`
	Advertise6 string `yaml:"advertise6"`
	// Ports is the range of RTP and RTCP ports, inclusive.
	Ports string `yaml:"ports"`
	// Reserve is how many port pairs are kept for calls that are already up.
	Reserve int `yaml:"reserve"`
	// Quarantine is how long a released pair rests.
	Quarantine time.Duration `yaml:"quarantine"`
	// Shards is the number of media loops; 0 means one for each CPU.
	Shards int `yaml:"shards"`
	// Engine moves the packets: "portable".
	Engine string `yaml:"engine"`
	// RTPTimeout is the silence after which a leg's controller is told, for
	// legs that name none; 0 means never.
	RTPTimeout time.Duration `yaml:"rtpTimeout"`
	// Relatch is how long a locked source must be silent before media may come
	// from another address.
	Relatch time.Duration `yaml:"relatch"`
	// Unlatched is how much media is sent to an address from which neither RTP
	// nor RTCP ever came; then the leg falls silent until it does. 0 means no bound.
	Unlatched time.Duration `yaml:"unlatched"`
	// Unattended legs, whose controllers have had no watch for so long, are closed.
	Unattended time.Duration `yaml:"unattended"`
	// ClipBudget is the memory for prompts in bytes, MaxClip for one of them.
	ClipBudget int64 `yaml:"clipBudget"`
	MaxClip    int   `yaml:"maxClip"`
}

// Defaults serve a call on this machine.
func Defaults() Config {
	return Config{
		Listen:     "127.0.0.1",
		Ports:      "20000-29999",
		Reserve:    32,
		Quarantine: 5 * time.Second,
		Engine:     "portable",
		Relatch:    2 * time.Second,
		// A caller behind a gateway that sends nothing still hears a prompt.
		Unlatched:  30 * time.Second,
		Unattended: time.Minute,
		// 512 MiB hold an hour and a half of prompts in linear and two codecs.
		ClipBudget: 512 << 20,
		// 32 MiB are 35 minutes.
		MaxClip: 32 << 20,
	}
}

// checked is a Config whose texts have been read.
type checked struct {
	Config
	ipv4, ipv6 *control.Address
	ports      ports.Range
}

func (c Config) check() (checked, error) {
	out := checked{Config: c}
	var err error
	if out.ports, err = ports.ParseRange(c.Ports); err != nil {
		return out, fmt.Errorf("media.ports: %w", err)
	}
	if out.ipv4, err = address("", c.Listen, c.Advertise, netip.Addr.Is4); err != nil {
		return out, err
	}
	if out.ipv6, err = address("6", c.Listen6, c.Advertise6, netip.Addr.Is6); err != nil {
		return out, err
	}
	if out.ipv4 == nil && out.ipv6 == nil {
		return out, fmt.Errorf("media.listen: want an IP address for RTP")
	}
	if c.Engine != "portable" {
		return out, fmt.Errorf("media.engine: %q is unknown; there is \"portable\"", c.Engine)
	}
	if out.Shards == 0 {
		out.Shards = runtime.NumCPU()
	}
	for _, n := range []struct {
		name string
		ok   bool
	}{
		{"shards", out.Shards > 0}, {"reserve", c.Reserve >= 0}, {"quarantine", c.Quarantine >= 0},
		{"rtpTimeout", c.RTPTimeout >= 0}, {"relatch", c.Relatch > 0}, {"unlatched", c.Unlatched >= 0}, {"unattended", c.Unattended > 0},
		{"clipBudget", c.ClipBudget > 0}, {"maxClip", c.MaxClip > 0},
	} {
		if !n.ok {
			return out, fmt.Errorf("media.%s: out of range", n.name)
		}
	}
	return out, nil
}

// address reads one family's pair; nil when it is not configured.
func address(suffix, listen, advertise string, family func(netip.Addr) bool) (*control.Address, error) {
	if listen == "" {
		return nil, nil
	}
	if advertise == "" {
		advertise = listen
	}
	var out control.Address
	for _, p := range []struct {
		name, text string
		into       *netip.Addr
	}{{"listen", listen, &out.Listen}, {"advertise", advertise, &out.Advertise}} {
		ip, err := netip.ParseAddr(p.text)
		if err != nil || !family(ip) || ip.Zone() != "" {
			return nil, fmt.Errorf("media.%s%s: %q is not an address of the family", p.name, suffix, p.text)
		}
		*p.into = ip
	}
	if out.Advertise.IsUnspecified() {
		return nil, fmt.Errorf("media.advertise%s: SDP needs a real address, not %s", suffix, out.Advertise)
	}
	return &out, nil
}
