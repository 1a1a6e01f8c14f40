package appservice

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"hearth/engine/mxid"
)

// Service is one registered application service. Nobody writes to it.
type Service struct {
	ID     string
	URL    string // without a slash at its end; empty: it wants to be told nothing
	Sender mxid.UserID

	RateLimited bool // whether the users it speaks for are limited as others are; itself never is
	Protocols   []string
	Ephemeral   bool // wants typing, receipts and presence
	Encrypted   bool // wants to-device messages, device lists and key counts: MSC2409, MSC3202

	as, hs                string
	token                 [sha256.Size]byte // of as
	users, aliases, rooms []namespace
}

// namespace is a part of the hub's names.
type namespace struct {
	exclusive bool
	re        *regexp.Regexp
}

// HSToken is what the hub proves itself with to the service.
func (s *Service) HSToken() string { return s.hs }

// file is a registration as services bring it. Members that are not known are
// other software's business.
type file struct {
	ID         string  `yaml:"id"`
	URL        *string `yaml:"url"`
	AS         string  `yaml:"as_token"`
	HS         string  `yaml:"hs_token"`
	Sender     string  `yaml:"sender_localpart"`
	Namespaces struct {
		Users   []space `yaml:"users"`
		Aliases []space `yaml:"aliases"`
		Rooms   []space `yaml:"rooms"`
	} `yaml:"namespaces"`
	RateLimited *bool    `yaml:"rate_limited"`
	Protocols   []string `yaml:"protocols"`

	Ephemeral    bool `yaml:"receive_ephemeral"`
	Ephemeral2   bool `yaml:"de.sorunome.msc2409.push_ephemeral"`
	Ephemeral3   bool `yaml:"push_ephemeral"`
	Transactions bool `yaml:"org.matrix.msc3202"`
}

type space struct {
	Exclusive bool   `yaml:"exclusive"`
	Regex     string `yaml:"regex"`
}

// Limits of a registration: what software writes is a few kilobytes.
const (
	maxFile       = 1 << 20
	maxNamespaces = 1000
	leastToken    = 8
)

// Parse reads a registration file, in YAML or JSON, for the hub of that name.
// Spec: application-service, registration.
func Parse(text []byte, server mxid.Server) (*Service, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	var f file
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&f); err != nil {
		return nil, fmt.Errorf("it is not YAML of a registration: %w", err)
	}
	s := &Service{
		ID: f.ID, as: f.AS, hs: f.HS, token: sha256.Sum256([]byte(f.AS)), Protocols: f.Protocols,
		RateLimited: f.RateLimited == nil || *f.RateLimited,
		Ephemeral:   f.Ephemeral || f.Ephemeral2 || f.Ephemeral3,
		Encrypted:   f.Transactions,
	}
	if f.URL != nil {
		s.URL = strings.TrimRight(*f.URL, "/")
	}
	if err := s.check(&f, server); err != nil {
		return nil, err
	}
	for _, part := range [...]struct {
		name string
		list []space
		to   *[]namespace
	}{{"users", f.Namespaces.Users, &s.users}, {"aliases", f.Namespaces.Aliases, &s.aliases}, {"rooms", f.Namespaces.Rooms, &s.rooms}} {
		var err error
		if *part.to, err = compile(part.list); err != nil {
			return nil, fmt.Errorf("namespaces, %s: %w", part.name, err)
		}
	}
	return s, nil
}

// check judges what is not a namespace.
func (s *Service) check(f *file, server mxid.Server) error {
	for _, need := range [...]struct{ name, value string }{{"id", f.ID}, {"as_token", f.AS}, {"hs_token", f.HS}, {"sender_localpart", f.Sender}} {
		if need.value == "" {
			return fmt.Errorf("%s is missing", need.name)
		}
	}
	if len(f.ID) > 255 || strings.ContainsRune(f.ID, 0) {
		return fmt.Errorf("id has more than 255 bytes, or a NUL")
	}
	if len(f.AS) < leastToken || len(f.HS) < leastToken {
		return fmt.Errorf("as_token and hs_token need at least %d bytes: they are the only proof", leastToken)
	}
	var err error
	if s.Sender, err = mxid.ParseUser("@" + f.Sender + ":" + string(server)); err != nil {
		return fmt.Errorf("sender_localpart: %w", err)
	}
	if s.URL == "" {
		return nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("url: %q is not of the form http://host:port/path", s.URL)
	}
	return nil
}

// compile makes namespaces of expressions. They are matched from the start of a
// name and may end before it does, as the software they are written for has it.
func compile(list []space) ([]namespace, error) {
	if len(list) > maxNamespaces {
		return nil, fmt.Errorf("more than %d", maxNamespaces)
	}
	all := make([]namespace, 0, len(list))
	for _, sp := range list {
		re, err := regexp.Compile("^(?:" + sp.Regex + ")")
		if err != nil || sp.Regex == "" {
			return nil, fmt.Errorf("the expression %q cannot be used (look-ahead and back references are not known here): %v", sp.Regex, err)
		}
		all = append(all, namespace{sp.Exclusive, re})
	}
	return all, nil
}

// in says whether a name lies in one of the namespaces, and in an exclusive one.
func in(list []namespace, name string) (is, exclusive bool) {
	for _, n := range list {
		if n.re.MatchString(name) {
			is, exclusive = true, exclusive || n.exclusive
		}
	}
	return is, exclusive
}

// User says whether the service speaks for a user of this hub. Users of other
// servers never are in a namespace. Spec: application-service, registration.
func (s *Service) User(id mxid.UserID) bool {
	if id == s.Sender {
		return true
	}
	if id.Server() != s.Sender.Server() {
		return false
	}
	is, _ := in(s.users, string(id))
	return is
}

// Alias says whether an alias lies in the service's namespaces.
func (s *Service) Alias(alias mxid.Alias) bool {
	is, _ := in(s.aliases, string(alias))
	return is
}

// Room says whether a room id lies in the service's namespaces.
func (s *Service) Room(id mxid.RoomID) bool {
	is, _ := in(s.rooms, string(id))
	return is
}
