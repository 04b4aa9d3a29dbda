package sessiond

import (
	"errors"
	"fmt"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/directory"
)

// Config of sessiond.
type Config struct {
	SIP     SIP     `yaml:"sip"`
	Archive Archive `yaml:"archive"`
	Journal Journal `yaml:"journal"`
	Calls   Calls   `yaml:"calls"`
	// Secret is what the keys of tags, replyIds and stored secrets are derived
	// from; the same in all instances, 32 characters or more.
	Secret string `yaml:"secret"`
	// Domains are written into the directory at start.
	Domains []Domain `yaml:"domains"`
}

// Domain is a tenant.
type Domain = directory.Domain

// The parts of a Domain.
type (
	Application = directory.Application
	Fallback    = directory.Fallback
	Key         = directory.Key
)

// SIP says where calls arrive.
type SIP struct {
	// Listen has transport:host:port each: udp:127.0.0.1:5060.
	Listen []string `yaml:"listen"`
	// Advertise is the address in Contact and Via; empty = the one a message
	// came in on.
	Advertise string `yaml:"advertise"`
	// SourceRate is how many messages a second one address may send; 0 = 10,000.
	SourceRate int `yaml:"sourceRate"`
	// Bound, if not nil, is told the addresses once they are bound: port 0 asks
	// for any.
	Bound func(transport, address string) `yaml:"-"`
}

// Archive says where ended sessions are kept.
type Archive struct {
	// URL is sqlite:./data/archive.db or postgres://….
	URL string `yaml:"url"`
}

// Journal keeps the state of live calls on local disk while Redis is away.
type Journal struct {
	Dir string `yaml:"dir"`
}

// Calls bounds calls.
type Calls struct {
	// Limit is the longest a call may last.
	Limit time.Duration `yaml:"limit"`
	// RTPTimeout ends calls without media; 0 = never.
	RTPTimeout time.Duration `yaml:"rtpTimeout"`
	// AckWait is 64*T1, how long a 2xx waits for its ACK; 0 = 32 s.
	AckWait time.Duration `yaml:"ackWait"`
}

// Defaults returns the configuration for trying out.
func Defaults() Config {
	return Config{
		SIP:     SIP{Listen: []string{"udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"}},
		Archive: Archive{URL: "sqlite:./data/archive.db"},
		Journal: Journal{Dir: "./data/journal"},
		Calls:   Calls{Limit: 4 * time.Hour, RTPTimeout: time.Minute},
	}
}

func (c Config) check() error {
	switch {
	case len(c.SIP.Listen) == 0:
		return errors.New("sip.listen: is missing")
	case c.Journal.Dir == "":
		return errors.New("journal.dir: is missing")
	case len(c.Secret) < 32:
		return fmt.Errorf("secret: %d characters, need at least 32", len(c.Secret))
	case c.Calls.Limit <= 0:
		return errors.New("calls.limit: must be above zero")
	case c.Calls.RTPTimeout < 0:
		return errors.New("calls.rtpTimeout: must not be below zero")
	}
	return nil
}
