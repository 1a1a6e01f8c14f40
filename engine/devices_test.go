package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hearth/engine/account"
	"hearth/engine/e2ee"
	"hearth/engine/mxid"
)

// login makes a device with keys.
func (h *hub) login(name, device string) account.Session {
	h.t.Helper()
	user, err := h.Accounts.Find(h.Accounts.ID(name))
	h.ok(err)
	_, s, err := h.Accounts.Login(user, account.NewSession{Device: device})
	h.ok(err)
	h.ok(h.UploadKeys(&s, fmt.Appendf(nil,
		`{"device_keys":{"user_id":%q,"device_id":%q,"algorithms":[],"keys":{},"signatures":{}},"one_time_keys":{"s:1":"k"}}`, s.UserID, device)))
	return s
}

// woken says whose parked requests an operation wakes.
func (h *hub) woken(do func() error, users ...uint32) (list []uint32) {
	h.t.Helper()
	var mu sync.Mutex
	for _, u := range users {
		defer h.log.Park(u, func() {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, u)
		}).Leave()
	}
	h.ok(do())
	mu.Lock()
	defer mu.Unlock()
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func (h *hub) changedKeys() (users []uint32) {
	h.t.Helper()
	h.ok(h.E2EE.ChangedSince(0, h.log.Tip(), func(u uint32) { users = append(users, u) }))
	return users
}

func (h *hub) keysOf(name string) string {
	h.t.Helper()
	dst, err := h.AppendKeys(nil, 0, []e2ee.Query{{User: h.Accounts.ID(name)}})
	h.ok(err)
	return string(dst)
}

// However a device ends, its keys end with it, and those who share a room with
// its user are told: nobody else is.
func TestDevicesEndWithTheirKeys(t *testing.T) {
	for name, end := range map[string]func(h *hub, s *account.Session) error{
		"logout":     func(h *hub, s *account.Session) error { return h.Logout(s) },
		"all":        func(h *hub, s *account.Session) error { return h.LogoutAll(s.User) },
		"password":   func(h *hub, s *account.Session) error { return h.SetPassword(s.User, "correct horse", true, "OTHER") },
		"deactivate": func(h *hub, s *account.Session) error { return h.Deactivate(s.User, s.UserID, false) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			for _, name := range []string{"ann", "ben", "cid"} {
				h.user(name)
			}
			ann, ben, cid := h.login("ann", "A"), h.login("ben", "B"), h.login("cid", "C")
			num := h.create(NewRoom{Creator: ann.UserID, Preset: "public_chat"})
			h.ok(h.Join(num, ben.UserID, nil))
			h.ok(h.SendToDevice(&ben, "t", "1", fmt.Appendf(nil, `{%q:{"*":{}}}`, ann.UserID)))
			if !strings.Contains(h.keysOf("ann"), `"device_id":"A"`) {
				t.Fatal(h.keysOf("ann"))
			}
			got := h.woken(func() error { return end(h, &ann) }, ann.User, ben.User, cid.User)
			if !slices.Equal(got, []uint32{ann.User, ben.User}) {
				t.Fatal(got)
			}
			if strings.Contains(h.keysOf("ann"), `"device_id":"A"`) {
				t.Fatal(h.keysOf("ann"))
			}
			if list := h.changedKeys(); list[len(list)-1] != ann.User || len(list) != 3 {
				t.Fatal(list)
			}
			claims := []e2ee.Claim{{User: ann.UserID, Device: "A", Algorithm: "s", Num: ann.DeviceNum}}
			h.ok(h.E2EE.Claim(claims))
			if dst, _, err := h.AppendToDevice(nil, ann.DeviceNum, 0); err != nil || len(dst) > 0 || claims[0].Key != nil {
				t.Fatal(string(dst), claims, err)
			}
		})
	}
}

// The end of a device without keys is nobody's business.
func TestDevicesWithoutKeysEndQuietly(t *testing.T) {
	h := open(t)
	h.user("ann")
	user, err := h.Accounts.Find("@ann:hub")
	h.ok(err)
	_, s, err := h.Accounts.Login(user, account.NewSession{Device: "A"})
	h.ok(err)
	h.ok(h.Logout(&s))
	if list := h.changedKeys(); len(list) != 0 {
		t.Fatal(list)
	}
}

func TestKeyChangesWakeThoseWhoShareARoom(t *testing.T) {
	h := open(t)
	for _, name := range []string{"ann", "ben", "cid"} {
		h.user(name)
	}
	ann, ben, cid := h.login("ann", "A"), h.login("ben", "B"), h.login("cid", "C")
	num := h.create(NewRoom{Creator: ann.UserID, Preset: "public_chat"})
	h.ok(h.Join(num, ben.UserID, nil))
	all := []uint32{ann.User, ben.User, cid.User}
	both := all[:2]
	change := fmt.Appendf(nil, `{"device_keys":{"user_id":%q,"device_id":"A","algorithms":["new"],"keys":{},"signatures":{}}}`, ann.UserID)
	if got := h.woken(func() error { return h.UploadKeys(&ann, change) }, all...); !slices.Equal(got, both) {
		t.Fatal(got)
	}
	if got := h.woken(func() error { return h.UploadKeys(&ann, change) }, all...); len(got) != 0 {
		t.Fatal("the same keys wake", got)
	}
	send := func() error {
		return h.SendToDevice(&ann, "t", "1", fmt.Appendf(nil, `{%q:{"C":{}},%q:{"C":{}}}`, cid.UserID, mxid.UserID("@x:other.test")))
	}
	if got := h.woken(send, all...); !slices.Equal(got, all[2:]) {
		t.Fatal(got)
	}
	if got := h.woken(send, all...); len(got) != 0 {
		t.Fatal("a transaction is sent twice", got)
	}
}
