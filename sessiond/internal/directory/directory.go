// Package directory knows the tenants: domains, their numbers, applications,
// keys and trunks. It is kept in Redis and read from a copy in memory, so that
// a call can be routed while Redis is away.
package directory

import (
	"crypto/sha256"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// Directory answers look-ups from the newest copy it has seen.
type Directory struct {
	store  *Store
	seen   atomic.Int64
	latest atomic.Pointer[snapshot]
}

// snapshot is one state of the whole directory, with its indexes.
type snapshot struct {
	byName   map[string]*directorypb.Domain
	byNumber map[string]*directorypb.Domain
	byID     map[int64]*directorypb.Domain
	byKey    map[[sha256.Size]byte]holder
}

type holder struct {
	domain string
	key    *directorypb.Key
}

// New returns a directory without domains; Refresh fills it.
func New(store *Store) *Directory {
	d := &Directory{store: store}
	d.latest.Store(index(nil))
	return d
}

func index(domains []*directorypb.Domain) *snapshot {
	s := &snapshot{
		byName:   make(map[string]*directorypb.Domain, len(domains)),
		byNumber: map[string]*directorypb.Domain{},
		byID:     map[int64]*directorypb.Domain{},
		byKey:    map[[sha256.Size]byte]holder{},
	}
	for _, d := range domains {
		s.byName[d.GetName()] = d
		s.byID[d.GetNumber()] = d
		for _, number := range d.GetNumbers() {
			s.byNumber[number] = d
		}
		for _, k := range d.GetKeys() {
			if sum := k.GetKeySha256(); len(sum) == sha256.Size {
				s.byKey[[sha256.Size]byte(sum)] = holder{domain: d.GetName(), key: k}
			}
		}
	}
	return s
}

// Domain returns the domain of the name, which is compared without case.
func (d *Directory) Domain(name string) (*directorypb.Domain, bool) {
	found, ok := d.latest.Load().byName[strings.ToLower(name)]
	return found, ok
}

// Numbered returns the domain of the numeric id.
func (d *Directory) Numbered(number int64) (*directorypb.Domain, bool) {
	found, ok := d.latest.Load().byID[number]
	return found, ok
}

// Route returns the domain that a called user at a host belongs to: the domain
// of that name, or else the one that holds the number.
func (d *Directory) Route(user, host string) (*directorypb.Domain, bool) {
	if found, ok := d.Domain(host); ok {
		return found, true
	}
	found, ok := d.latest.Load().byNumber[user]
	return found, ok
}

// Key returns whose key has the hash.
func (d *Directory) Key(sum []byte) (domain string, key *directorypb.Key, ok bool) {
	if len(sum) != sha256.Size {
		return "", nil, false
	}
	h, ok := d.latest.Load().byKey[[sha256.Size]byte(sum)]
	return h.domain, h.key, ok
}

func decode(raw map[string]string) ([]*directorypb.Domain, error) {
	domains := make([]*directorypb.Domain, 0, len(raw))
	for _, b := range raw {
		var d directorypb.Domain
		if err := proto.Unmarshal([]byte(b), &d); err != nil {
			return nil, err
		}
		domains = append(domains, &d)
	}
	return domains, nil
}
