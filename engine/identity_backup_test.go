package engine

import (
	"path/filepath"
	"testing"

	"hearth/engine/account"
	"hearth/engine/backup"
	"hearth/engine/fault"
	"hearth/engine/identity"
)

// A backup has the key without which the addresses of an identity service cannot
// be read, be it a hub's or one that stands alone.
func TestIdentityIsBackedUp(t *testing.T) {
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	amy := identity.Address{Medium: account.Email, Text: "amy@x.test"}
	known := func(s *IdentityService, pepper string) {
		t.Helper()
		now, err := s.Records.HashDetails()
		ok(err)
		if user, err := s.Records.User(amy); err != nil || user != "@amy:hub" || now != pepper {
			t.Errorf("%q has the address, and the pepper is %q: %v", user, now, err)
		}
	}
	var peppers [2]string
	var err error

	hub, alone, to := t.TempDir(), t.TempDir(), t.TempDir()
	e, err := Open(Options{Dir: hub, Server: "hub", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}}})
	ok(err)
	s, err := e.OpenIdentity()
	ok(err)
	_, err = s.Records.Bind(amy, "@amy:hub")
	ok(err)
	peppers[0], err = s.Records.HashDetails()
	ok(err)
	_, err = e.Backup(t.Context(), filepath.Join(to, "hub"), true)
	ok(err)
	ok(e.Close())

	s, err = OpenIdentity(Options{Dir: alone, Server: "id.test"})
	ok(err)
	_, err = s.Records.Bind(amy, "@amy:hub")
	ok(err)
	peppers[1], err = s.Records.HashDetails()
	ok(err)
	ok(s.Close())
	if _, err := Open(Options{Dir: alone, Server: "hub"}); !fault.Is(err, fault.Invalid) {
		t.Fatal("the folder of an identity service becomes a hub's:", err)
	}
	note, err := BackupIdentity(t.Context(), Options{Dir: alone}, filepath.Join(to, "alone"))
	ok(err)
	if note.Server != "id.test" {
		t.Error(note.Server)
	}

	for i, name := range []string{"hub", "alone"} {
		back := filepath.Join(to, "back", name)
		_, _, err := backup.Restore(t.Context(), filepath.Join(to, name), back, backup.Restoring{})
		ok(err)
		if i == 1 {
			s, err := OpenIdentity(Options{Dir: back, Server: "id.test"})
			ok(err)
			known(s, peppers[i])
			ok(s.Close())
			continue
		}
		e, err := Open(Options{Dir: back})
		ok(err)
		s, err := e.OpenIdentity()
		ok(err)
		known(s, peppers[i])
		ok(e.Close())
	}
}
