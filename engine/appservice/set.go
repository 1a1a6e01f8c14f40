package appservice

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"hearth/engine/mxid"
)

// Set is all services that are registered at one time. Nobody writes to it: a
// reload makes another.
type Set struct {
	list   []*Service
	tokens map[[sha256.Size]byte]*Service
	ids    map[string]*Service
}

// Load reads registration files, and those in the folders among them whose names
// end in .yaml, .yml or .json. The error names the file.
func Load(names []string, server mxid.Server) (*Set, error) {
	var list []*Service
	for _, name := range files(names) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("application service: %w", err)
		}
		s, err := Parse(text, server)
		if err != nil {
			return nil, fmt.Errorf("application service %s: %w", name, err)
		}
		list = append(list, s)
	}
	return NewSet(list)
}

// files lists what stands in folders.
func files(names []string) (list []string) {
	for _, name := range names {
		entries, err := os.ReadDir(name)
		if err != nil {
			list = append(list, name) // a file, or nothing that can be read, which is said later
			continue
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
				list = append(list, filepath.Join(name, e.Name()))
			}
		}
	}
	return list
}

// NewSet puts services together. Two with one id, one token or one sender are
// refused: they could not be told apart.
func NewSet(list []*Service) (*Set, error) {
	set := &Set{list: list, tokens: map[[sha256.Size]byte]*Service{}, ids: map[string]*Service{}}
	senders := map[mxid.UserID]*Service{}
	for _, s := range list {
		for _, clash := range [...]struct {
			what string
			with *Service
		}{{"id", set.ids[s.ID]}, {"as_token", set.tokens[s.token]}, {"sender_localpart", senders[s.Sender]}} {
			if clash.with != nil {
				return nil, fmt.Errorf("application services %s and %s have the same %s", clash.with.ID, s.ID, clash.what)
			}
		}
		set.ids[s.ID], set.tokens[s.token], senders[s.Sender] = s, s, s
	}
	return set, nil
}

// All lists the services in the order of their files.
func (set *Set) All() []*Service { return set.list }

// ByID finds a service; nil where there is none.
func (set *Set) ByID(id string) *Service { return set.ids[id] }

// ByToken finds the service an as_token belongs to; nil where it is nobody's.
// Only the token's hash is compared, so time tells nothing of it.
func (set *Set) ByToken(token []byte) *Service { return set.tokens[sha256.Sum256(token)] }

// Owner is the service for which alone a user may be made; nil where anybody may.
func (set *Set) Owner(id mxid.UserID) *Service {
	for _, s := range set.list {
		if _, exclusive := in(s.users, string(id)); exclusive || id == s.Sender {
			return s
		}
	}
	return nil
}

// Takes says whether the messages to a user's devices go to an application service
// in its transactions, and to nobody else: the user is a service's alone, and it
// wants them. Of users that others log in as too, a service is only told as well.
// Spec: MSC4203, when to delete a message.
func (set *Set) Takes(id mxid.UserID) bool { return set.taker(id) != nil }

// taker is the service that takes the messages to a user's devices.
func (set *Set) taker(id mxid.UserID) *Service {
	for _, s := range set.list {
		if !s.Encrypted || s.URL == "" {
			continue
		}
		if _, exclusive := in(s.users, string(id)); exclusive || id == s.Sender {
			return s
		}
	}
	return nil
}

// AliasOwner is the service for which alone an alias may be made; nil where
// anybody may.
func (set *Set) AliasOwner(alias mxid.Alias) *Service {
	for _, s := range set.list {
		if _, exclusive := in(s.aliases, string(alias)); exclusive {
			return s
		}
	}
	return nil
}

// Speaks lists the services that speak for a user.
func (set *Set) Speaks(id mxid.UserID) (list []*Service) {
	for _, s := range set.list {
		if s.User(id) {
			list = append(list, s)
		}
	}
	return list
}

// Protocols lists the third-party networks that are bridged, each once.
func (set *Set) Protocols() (names []string) {
	for _, s := range set.list {
		for _, p := range s.Protocols {
			if !slices.Contains(names, p) {
				names = append(names, p)
			}
		}
	}
	return names
}

func (s *Service) bridges(protocol string) bool { return slices.Contains(s.Protocols, protocol) }
