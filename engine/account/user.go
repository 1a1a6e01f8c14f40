package account

import (
	"encoding/binary"
	"time"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// User is what the hub knows about one of its users.
type User struct {
	Num         uint32 // interned number of the id
	ID          mxid.UserID
	Admin       bool
	Guest       bool
	Deactivated bool
	Erased      bool // asked to be forgotten when deactivated
	Locked      bool
	Suspended   bool
	HasPassword bool
	Created     time.Time
}

// Flags of a user's row.
const (
	flagAdmin uint64 = 1 << iota
	flagGuest
	flagDeactivated
	flagErased
	flagLocked
	flagSuspended
)

// userRow is the row of table User.
type userRow struct {
	flags    uint64
	created  int64  // milliseconds
	devices  uint64 // how many devices the user ever had: the next one's number
	password string // PHC string; empty: nobody can log in by password
}

func (u *userRow) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, u.flags)
	dst = binary.AppendUvarint(dst, uint64(u.created))
	dst = binary.AppendUvarint(dst, u.devices)
	return fields.AppendText(dst, u.password)
}

func (u *userRow) has(flag uint64) bool { return u.flags&flag != 0 }

func (u *userRow) set(flag uint64, on bool) {
	u.flags &^= flag
	if on {
		u.flags |= flag
	}
}

func parseUserRow(row []byte) (u userRow, err error) {
	r := fields.Open(row)
	u.flags, u.created, u.devices, u.password = r.Uint(), int64(r.Uint()), r.Uint(), r.Text()
	return u, rowErr(&r, "a user")
}

func userKey(user uint32) []byte { return store.U32(store.User.Prefix(), user) }

func setUserRow(b *store.Batch, user uint32, u *userRow) {
	b.Set(userKey(user), u.append(fields.New()))
}

// row reads a user's row. ok is false where the number is no user of this hub.
func (a *Accounts) row(user uint32) (u userRow, ok bool, err error) {
	var buf [128]byte
	val, ok, err := a.st.Get(buf[:0], userKey(user))
	if err != nil || !ok {
		return u, false, err
	}
	u, err = parseUserRow(val)
	return u, err == nil, err
}

// mustRow is row for a user that has to exist.
func (a *Accounts) mustRow(op string, user uint32) (userRow, error) {
	u, ok, err := a.row(user)
	if err == nil && !ok {
		err = fault.E(fault.NotFound, op, "there is no such user here")
	}
	return u, err
}

// ID makes the user id of a name on this hub. It checks nothing.
func (a *Accounts) ID(localpart string) mxid.UserID {
	return mxid.UserID("@" + localpart + ":" + string(a.server))
}

// CheckName says why a name cannot be given to a new user: its grammar, or
// that it was given before. Names of deactivated users stay taken.
// Spec: client-server, GET /register/available.
func (a *Accounts) CheckName(localpart string) error {
	const op = "account.CheckName"
	if localpart == HubName {
		return fault.E(fault.Exclusive, op, "the name is the hub's own")
	}
	return a.checkFree(op, localpart)
}

func (a *Accounts) checkFree(op, localpart string) error {
	id, err := mxid.NewUser(localpart, a.server)
	if err != nil {
		return fault.E(fault.BadUsername, op, "%w", err)
	}
	switch user, err := a.Find(id); {
	case err != nil:
		return err
	case user != 0:
		return fault.E(fault.UserInUse, op, "the user name is taken")
	}
	return nil
}

// Find gives the number of a user of this hub, deactivated or not; 0 where
// there is none.
func (a *Accounts) Find(id mxid.UserID) (uint32, error) {
	if len(id) > maxUserID {
		return 0, nil
	}
	user, err := a.names.Find(store.Users, string(id))
	if err != nil || user == 0 {
		return 0, err
	}
	ok, err := a.st.Has(userKey(user))
	if !ok {
		user = 0
	}
	return user, err
}

// User reads one user.
func (a *Accounts) User(user uint32) (User, error) {
	row, err := a.mustRow("account.User", user)
	if err != nil {
		return User{}, err
	}
	return a.describe(user, &row)
}

func (a *Accounts) describe(user uint32, row *userRow) (User, error) {
	id, err := a.names.Name(store.Users, user)
	return User{
		Num: user, ID: mxid.UserID(id),
		Admin: row.has(flagAdmin), Guest: row.has(flagGuest),
		Deactivated: row.has(flagDeactivated), Erased: row.has(flagErased),
		Locked: row.has(flagLocked), Suspended: row.has(flagSuspended),
		HasPassword: row.password != "",
		Created:     time.UnixMilli(row.created),
	}, err
}

// Users lists users in the order in which their names were first seen, from the
// one after the given number on.
func (a *Accounts) Users(after uint32, limit int) ([]User, error) {
	var list []User
	lower := userKey(after + 1)
	err := a.st.Scan(lower, store.After(store.User.Prefix()), func(key, val []byte) (bool, error) {
		row, err := parseUserRow(val)
		if err != nil {
			return false, err
		}
		u, err := a.describe(binary.BigEndian.Uint32(key[1:]), &row)
		list = append(list, u)
		return len(list) < limit, err
	})
	return list, err
}

// Any says whether the hub has a user at all.
func (a *Accounts) Any() (bool, error) {
	list, err := a.Users(0, 1)
	return len(list) > 0, err
}

// NewUser is what a user is made of.
type NewUser struct {
	Localpart string
	Password  string // empty: nobody can log in by password
	Admin     bool
	Guest     bool
	Token     string // the registration token it came with; empty: none
	// Who it is to an identity provider; see LinkExternal. Empty: nobody.
	Provider, Subject string
	Hub               bool // it is the hub's own, HubName: nobody else is made with that name
}

// HubName is the local part of the hub's own user, which speaks to people for the
// hub and whose word counts in its control room. It is made when it is first
// needed, so nobody may be there before it.
const HubName = "_server"

// Create makes a user. A registration token is counted in the same batch; the
// claim code makes the user an admin.
func (a *Accounts) Create(n NewUser) (uint32, error) {
	const op = "account.Create"
	check := func() error { return a.CheckName(n.Localpart) }
	if n.Hub {
		n.Localpart = HubName
		check = func() error { return a.checkFree(op, HubName) }
	}
	if err := check(); err != nil {
		return 0, err
	}
	hashed, err := a.newHash(n.Password)
	if err != nil {
		return 0, err
	}
	user, err := a.names.Number(store.Users, string(a.ID(n.Localpart)))
	if err != nil {
		return 0, err
	}
	defer a.Hold(user)()
	if _, ok, err := a.row(user); err != nil {
		return 0, err
	} else if ok {
		return 0, fault.E(fault.UserInUse, op, "the user name is taken")
	}
	row := userRow{created: a.millis(), password: hashed}
	row.set(flagGuest, n.Guest)
	row.set(flagAdmin, n.Admin)
	return user, a.admit(user, &row, &n)
}

// PutMachine makes a user that no person is: without a password, with one device
// that nobody is logged in as. A user of the number that is one already gets the
// device only. The caller holds the user and has checked a new one's name.
func (a *Accounts) PutMachine(tx *stream.Tx, user uint32, device, name string) (Device, error) {
	row, ok, err := a.row(user)
	if err != nil {
		return Device{}, err
	}
	if !ok {
		row = userRow{created: a.millis()}
		tx.Put(&stream.Entry{Kind: stream.Account, User: user})
	}
	row.devices++
	setUserRow(tx.Batch, user, &row)
	d := Device{ID: device, Num: deviceNum(user, row.devices), Name: name}
	setDevice(tx.Batch, user, &d)
	tx.Put(&stream.Entry{Kind: stream.Devices, User: user})
	return d, nil
}

// Upgrade makes a guest an ordinary user of the same name. What the guest had
// stays theirs. Spec: client-server, guest access.
func (a *Accounts) Upgrade(guest uint32, n NewUser) error {
	const op = "account.Upgrade"
	hashed, err := a.newHash(n.Password)
	if err != nil {
		return err
	}
	defer a.Hold(guest)()
	row, err := a.mustRow(op, guest)
	switch {
	case err != nil:
		return err
	case row.has(flagDeactivated):
		return fault.E(fault.Deactivated, op, "this account has been deactivated")
	case !row.has(flagGuest):
		return fault.E(fault.UserInUse, op, "the user name is taken")
	}
	row.password = hashed
	row.set(flagGuest, false)
	defer a.Purge(guest)
	return a.admit(guest, &row, &n)
}

// newHash is the hash of a new user's password; empty where there is none.
func (a *Accounts) newHash(password string) (string, error) {
	if password == "" {
		return "", nil
	}
	if err := a.CheckNewPassword(password); err != nil {
		return "", err
	}
	return a.hash.make(password)
}

// admit writes the row of a user who is new, or new as what they are now, and
// counts the registration token. The caller holds the user.
func (a *Accounts) admit(user uint32, row *userRow, n *NewUser) error {
	token := n.Token
	if token != "" || row.has(flagAdmin) {
		a.regMu.Lock()
		defer a.regMu.Unlock()
	}
	var reg *RegistrationToken
	if token != "" {
		var err error
		if reg, err = a.usable(token); err != nil {
			return err
		}
		row.set(flagAdmin, row.has(flagAdmin) || reg.Claim)
	}
	_, err := a.log.Commit(func(tx *stream.Tx) error {
		setUserRow(tx.Batch, user, row)
		if n.Provider != "" { // in one batch: a user whom nobody could log in as would keep the name
			if err := a.putThreepid(tx, user, Threepid{Medium: externalPrefix + n.Provider, Address: n.Subject, Validated: a.now()}); err != nil {
				return err
			}
		}
		tx.Put(&stream.Entry{Kind: stream.Account, User: user})
		if reg != nil {
			reg.Completed++
			setRegistration(tx.Batch, reg)
		}
		if row.has(flagAdmin) {
			return a.voidClaim(tx.Batch)
		}
		return nil
	})
	if err == nil && row.has(flagAdmin) {
		a.crowned()
	}
	return err
}

// change edits a user's row and forgets what is cached of it.
func (a *Accounts) change(op string, user uint32, edit func(u *userRow)) error {
	defer a.Hold(user)()
	row, err := a.mustRow(op, user)
	if err != nil {
		return err
	}
	edit(&row)
	b := a.st.NewBatch()
	setUserRow(b, user, &row)
	err = a.st.Commit(b)
	a.Purge(user)
	return err
}

// SetAdmin makes a user an admin of the hub, or an ordinary one.
func (a *Accounts) SetAdmin(user uint32, on bool) error {
	err := a.change("account.SetAdmin", user, func(u *userRow) { u.set(flagAdmin, on) })
	if err == nil && on {
		a.crowned()
	}
	return err
}

// OnAdmin has f called whenever there is an admin more. It is to return at once,
// and to be set before anybody asks for anything.
func (a *Accounts) OnAdmin(f func()) { a.crowned = f }

// SetLocked keeps a user from doing anything until it is undone; devices and
// tokens stay. Spec: client-server, account locking.
func (a *Accounts) SetLocked(user uint32, on bool) error {
	return a.change("account.SetLocked", user, func(u *userRow) { u.set(flagLocked, on) })
}

// SetSuspended keeps a user from writing until it is undone.
// Spec: client-server, account suspension.
func (a *Accounts) SetSuspended(user uint32, on bool) error {
	return a.change("account.SetSuspended", user, func(u *userRow) { u.set(flagSuspended, on) })
}

// Deactivate ends an account for good: its password, devices, tokens, profile,
// account data, filters and thread subscriptions go, its name stays taken. erase
// is remembered for those who show the user's old messages. The caller holds the
// user, and calls Purge when the batch is applied; see End.
func (a *Accounts) Deactivate(tx *stream.Tx, user uint32, erase bool) error {
	row, err := a.mustRow("account.Deactivate", user)
	if err != nil {
		return err
	}
	tx.Frees()
	row.password = ""
	row.set(flagDeactivated, true)
	row.set(flagErased, erase || row.has(flagErased))
	row.set(flagAdmin, false)
	setUserRow(tx.Batch, user, &row)
	if err := a.DropDevices(tx, user, func(*Device) bool { return true }); err != nil {
		return err
	}
	a.tickets.drop(user, openIDTicket)
	a.SignOutAll(user)
	if err := a.dropThreepids(tx, user); err != nil {
		return err
	}
	if err := a.dropPushersOf(tx, user, func(uint64) bool { return true }); err != nil {
		return err
	}
	for _, t := range [...]store.Table{store.Profile, store.AccountData, store.AccountDataAt, store.Filter, store.ThreadSubscription} {
		prefix := store.U32(t.Prefix(), user)
		tx.DeleteRange(prefix, store.After(prefix))
	}
	tx.Put(&stream.Entry{Kind: stream.Account, User: user})
	tx.Wake(user)
	return nil
}

// End is Deactivate in a batch of its own.
func (a *Accounts) End(user uint32, erase bool) error {
	defer a.Hold(user)()
	defer a.Purge(user)
	_, err := a.log.Commit(func(tx *stream.Tx) error { return a.Deactivate(tx, user, erase) })
	return err
}
