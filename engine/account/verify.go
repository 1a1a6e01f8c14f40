package account

import (
	"encoding/binary"

	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// verifier compares the tables of package account with each other.
type verifier struct {
	a   *Accounts
	bad func(format string, args ...any)
}

// Verify reads every row of the accounts and tells bad what does not agree.
// Nobody may be writing meanwhile. The error is one of reading.
func (a *Accounts) Verify(bad func(format string, args ...any)) error {
	v := verifier{a, bad}
	for _, step := range [...]func() error{v.users, v.devices, v.tokens, v.data, v.dataAt, v.owned, v.pushers, v.threepids, v.threepidUsers, v.reports, v.clients} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// scan walks one table whose keys are at least so long, without the prefix.
func (v *verifier) scan(t store.Table, what string, keyLen int, f func(key, val []byte) error) error {
	return v.a.st.ScanPrefix(t.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) < 1+keyLen {
			v.bad("%s: a key of %d bytes", what, len(key))
			return true, nil
		}
		return true, f(key[1:], val)
	})
}

func (v *verifier) users() error {
	return v.scan(store.User, "user", 4, func(key, val []byte) error {
		user := binary.BigEndian.Uint32(key)
		if _, err := parseUserRow(val); err != nil {
			v.bad("user %d: %v", user, err)
		}
		id, err := v.a.names.Name(store.Users, user)
		if err != nil {
			v.bad("user %d: %v", user, err)
		} else if mxid.UserID(id).Server() != v.a.server {
			v.bad("user %d: %s is of another server", user, id)
		}
		return nil
	})
}

// user reads the row that another belongs to; a missing one is told.
func (v *verifier) user(user uint32, what string) (userRow, error) {
	row, ok, err := v.a.row(user)
	if err == nil && !ok {
		v.bad("%s of user %d: there is no such user", what, user)
	}
	return row, err
}

func (v *verifier) devices() error {
	return v.scan(store.Device, "device", 4, func(key, val []byte) error {
		user := binary.BigEndian.Uint32(key)
		d, err := parseDevice(string(key[4:]), val)
		if err != nil {
			v.bad("device %q of user %d: %v", key[4:], user, err)
			return nil
		}
		row, err := v.user(user, "a device")
		if err != nil {
			return err
		}
		if d.Client != "" {
			if known, err := v.a.st.Has(clientKey(d.Client)); err != nil {
				return err
			} else if !known {
				v.bad("device %q of user %d: its client %s is not registered", d.ID, user, d.Client)
			}
		}
		if d.Num>>32 != uint64(user) || d.Num&0xffffffff > row.devices {
			v.bad("device %q of user %d: number %x was never given, the last is %d", d.ID, user, d.Num, row.devices)
		}
		return nil
	})
}

// tokens holds each token to its device. A device whose token has no row is in
// order: its session has ended and it has not.
func (v *verifier) tokens() error {
	return v.scan(store.Token, "token", len(tokenHash{}), func(key, val []byte) error {
		t, err := parseTokenRow(val)
		if err != nil {
			v.bad("token %x: %v", key[:4], err)
			return nil
		}
		d, ok, err := v.a.device(t.user, t.device)
		if err != nil {
			return err
		}
		if !ok || d.Num != t.num || !d.has(t.kind, tokenHash(key)) {
			v.bad("token %x: it is not that of device %q of user %d", key[:4], t.device, t.user)
		}
		return nil
	})
}

// data holds account data to the index of changes; dataAt does the reverse.
func (v *verifier) data() error {
	return v.scan(store.AccountData, "account data", 8, func(key, val []byte) error {
		user, room := binary.BigEndian.Uint32(key), binary.BigEndian.Uint32(key[4:])
		if len(val) < 8 {
			v.bad("account data %q of user %d: a cut row", key[8:], user)
			return nil
		}
		pos := stream.Pos(binary.BigEndian.Uint64(val))
		if pos > v.a.log.Tip() {
			v.bad("account data %q of user %d: changed at %d, past the tip", key[8:], user, pos)
		}
		at, ok, err := v.a.st.Get(nil, dataAtKey(user, pos))
		if err != nil {
			return err
		}
		if !ok || string(at) != string(store.U32(nil, room))+string(key[8:]) {
			v.bad("account data %q of user %d in room %d: its change at %d is not indexed", key[8:], user, room, pos)
		}
		_, err = v.user(user, "account data")
		return err
	})
}

func (v *verifier) dataAt() error {
	return v.scan(store.AccountDataAt, "change of account data", 12, func(key, val []byte) error {
		user, pos := binary.BigEndian.Uint32(key), binary.BigEndian.Uint64(key[4:])
		if len(val) < 4 {
			v.bad("change of account data of user %d: a cut row", user)
			return nil
		}
		row, ok, err := v.a.st.Get(nil, dataKey(user, binary.BigEndian.Uint32(val), string(val[4:])))
		if err != nil {
			return err
		}
		if !ok || len(row) < 8 || binary.BigEndian.Uint64(row) != pos {
			v.bad("change of account data %q of user %d at %d: the data was not changed there", val[4:], user, pos)
		}
		return nil
	})
}

// owned holds the rows that only need an owner.
func (v *verifier) owned() error {
	for _, t := range [...]struct {
		table store.Table
		what  string
	}{{store.Profile, "profile field"}, {store.Filter, "filter"}} {
		if err := v.scan(t.table, t.what, 4, func(key, _ []byte) error {
			_, err := v.user(binary.BigEndian.Uint32(key), "a "+t.what)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// pushers holds each pusher to its owner and to the index by id.
func (v *verifier) pushers() error {
	err := v.scan(store.Pusher, "pusher", 20, func(key, val []byte) error {
		user, id := binary.BigEndian.Uint32(key), PusherID(key[4:20])
		p, err := parsePusher(val)
		if err != nil || p.ID() != id {
			v.bad("pusher %x of user %d: not under its own id, or cut", id, user)
		}
		indexed, err := v.a.st.Has(pusherUserKey(id, user))
		if err != nil {
			return err
		}
		if !indexed {
			v.bad("pusher %x of user %d is not indexed", id, user)
		}
		_, err = v.user(user, "a pusher")
		return err
	})
	if err != nil {
		return err
	}
	return v.scan(store.PusherUser, "index of pushers", 20, func(key, _ []byte) error {
		user := binary.BigEndian.Uint32(key[16:])
		known, err := v.a.st.Has(pusherKey(user, PusherID(key[:16])))
		if err == nil && !known {
			v.bad("pusher %x of user %d is indexed and not there", key[:16], user)
		}
		return err
	})
}

// threepids holds each address to the index by address; threepidUsers does the
// reverse.
func (v *verifier) threepids() error {
	return v.scan(store.Threepid, "address", 5, func(key, _ []byte) error {
		user := binary.BigEndian.Uint32(key)
		val, ok, err := v.a.st.Get(nil, append(store.ThreepidUser.Prefix(), key[4:]...))
		if err != nil {
			return err
		}
		if !ok || len(val) != 4 || binary.BigEndian.Uint32(val) != user {
			v.bad("an address of user %d is indexed as no or another user's", user)
		}
		_, err = v.user(user, "an address")
		return err
	})
}

func (v *verifier) threepidUsers() error {
	return v.scan(store.ThreepidUser, "index of addresses", 1, func(key, val []byte) error {
		if len(val) != 4 {
			v.bad("index of addresses: a cut row")
			return nil
		}
		has, err := v.a.st.Has(append(append(store.Threepid.Prefix(), val...), key...))
		if err == nil && !has {
			v.bad("an address is indexed as that of user %d, who has it not", binary.BigEndian.Uint32(val))
		}
		return err
	})
}

func (v *verifier) reports() error {
	return v.scan(store.Reported, "report", 8, func(key, val []byte) error {
		num := binary.BigEndian.Uint64(key)
		p, err := parseReport(num, val)
		if err != nil {
			v.bad("report %d: %v", num, err)
			return nil
		}
		_, err = v.user(p.By, "a report")
		return err
	})
}

func (v *verifier) clients() error {
	return v.scan(store.OAuthClient, "OAuth client", 1, func(key, val []byte) error {
		if c, err := parseClient(val); err != nil || c.ID() != string(key) {
			v.bad("OAuth client %q: not under its own id, or cut", key)
		}
		return nil
	})
}
