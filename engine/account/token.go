package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// tokenHash is what the store keeps of a token.
type tokenHash [sha256.Size]byte

// Kinds of token row. They are on disk.
const (
	tokenAccess  = 1
	tokenRefresh = 2
	tokenFamily  = 3 // what the refresh tokens of an OAuth session have in common
)

// tokenPrefix marks our tokens, for those who search leaked text for secrets.
const tokenPrefix = "hearth_"

// tokenRow is the row of table Token.
type tokenRow struct {
	kind   uint64
	user   uint32
	num    uint64 // the device's number: a row that outlived its device is void
	device string
	until  int64 // milliseconds at which an access token ends; 0: never
}

func (t *tokenRow) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.kind)
	dst = binary.AppendUvarint(dst, uint64(t.user))
	dst = binary.AppendUvarint(dst, t.num)
	dst = fields.AppendText(dst, t.device)
	return binary.AppendUvarint(dst, uint64(t.until))
}

func parseTokenRow(row []byte) (t tokenRow, err error) {
	r := fields.Open(row)
	t.kind, t.user, t.num, t.device, t.until = r.Uint(), uint32(r.Uint()), r.Uint(), r.Text(), int64(r.Uint())
	return t, rowErr(&r, "a token")
}

func tokenKey(h *tokenHash) []byte { return append(store.Token.Prefix(), h[:]...) }

func newToken() (text string, h tokenHash, err error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", h, fmt.Errorf("account: %w", err)
	}
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return text, sha256.Sum256([]byte(text)), nil
}

// tokenRow reads the row of a token; ok is false where there is none.
func (a *Accounts) tokenRow(h *tokenHash) (t tokenRow, ok bool, err error) {
	var buf [128]byte
	val, ok, err := a.st.Get(buf[:0], tokenKey(h))
	if err != nil || !ok {
		return t, false, err
	}
	t, err = parseTokenRow(val)
	return t, err == nil, err
}

// pair is the tokens of one session: what the store keeps of them. Either may
// be missing.
type pair struct {
	access, refresh tokenHash
}

// drop deletes the rows of the pair.
func (p *pair) drop(b *store.Batch) {
	for _, h := range [...]*tokenHash{&p.access, &p.refresh} {
		if *h != (tokenHash{}) {
			b.Delete(tokenKey(h))
		}
	}
	*p = pair{}
}

// Tokens are what a client gets when it logs in or refreshes.
type Tokens struct {
	Access  string
	Refresh string        // empty: the client did not ask for one
	Life    time.Duration // of the access token; 0: it does not end
}

// ask is what tokens are made as.
type ask struct {
	refresh bool          // with a refresh token
	life    time.Duration // of the access token; 0: as usual
	family  string        // what the refresh token begins with; empty: nothing
}

// issue makes new tokens for a device and puts their rows into the batch.
func (a *Accounts) issue(b *store.Batch, user uint32, d *Device, n ask) (t Tokens, p pair, err error) {
	if t.Access, p.access, err = newToken(); err != nil {
		return t, p, err
	}
	if n.refresh && n.life == 0 {
		n.life = a.tokenLife
	}
	t.Life = n.life
	row := tokenRow{kind: tokenAccess, user: user, num: d.Num, device: d.ID}
	if n.life > 0 {
		row.until = a.millis() + n.life.Milliseconds()
	}
	b.Set(tokenKey(&p.access), row.append(fields.New()))
	if !n.refresh {
		return t, p, nil
	}
	if t.Refresh, p.refresh, err = newRefresh(n.family); err != nil {
		return t, p, err
	}
	row.kind, row.until = tokenRefresh, 0
	b.Set(tokenKey(&p.refresh), row.append(fields.New()))
	return t, p, nil
}

// Refresh gives new tokens for a refresh token. The old ones stay good until
// one of the new ones is used: a client that never saw the answer asks again.
// Spec: client-server, refreshing access tokens.
func (a *Accounts) Refresh(token string) (t Tokens, s Session, err error) {
	t, d, err := a.refresh(token, "")
	return t, d.Session, err
}

// refreshed is the session that was refreshed, and what it was granted.
type refreshed struct {
	Session
	device Device
}

// refresh is Refresh for the sessions of an OAuth client; those without one where
// client is empty. Of a token that is unknown it tells nothing.
func (a *Accounts) refresh(token, client string) (t Tokens, s refreshed, err error) {
	if token == "" || len(token) > maxTokenText {
		return t, s, unknownToken()
	}
	h := tokenHash(sha256.Sum256([]byte(token)))
	row, ok, err := a.tokenRow(&h)
	if err != nil {
		return t, s, err
	}
	if !ok || row.kind != tokenRefresh {
		return t, s, unknownToken()
	}
	defer a.Hold(row.user)()
	u, ok, err := a.row(row.user)
	if err != nil {
		return t, s, err
	}
	d, has, err := a.device(row.user, row.device)
	switch {
	case err != nil:
		return t, s, err
	case !ok || !has || d.Num != row.num || u.has(flagDeactivated) || d.Client != client:
		return t, s, unknownToken()
	case u.has(flagLocked) && client == "":
		return t, s, locked() // an OAuth client would take any refusal for the session's end, which a lock is not
	}
	b := a.st.NewBatch()
	switch h {
	case d.next.refresh:
		d.now.drop(b)
		d.now = d.next
	case d.now.refresh:
		d.next.drop(b)
	default:
		b.Drop()
		return t, s, unknownToken()
	}
	if t, d.next, err = a.issue(b, row.user, &d, ask{refresh: true, family: familyOf(token)}); err != nil {
		b.Drop()
		return t, s, err
	}
	setDevice(b, row.user, &d)
	if err := a.st.Commit(b); err != nil {
		return t, s, err
	}
	a.Purge(row.user)
	s.device = d
	s.Session, err = a.session(&row, &u)
	s.Session.Client = d.Client
	return t, s, err
}

// promote ends the tokens that came before the access token h, which is being
// used for the first time. It needs no sync: after a power cut both pairs are
// good again, as they were.
func (a *Accounts) promote(t *tokenRow, h tokenHash) error {
	defer a.Hold(t.user)()
	d, ok, err := a.device(t.user, t.device)
	if err != nil || !ok || d.Num != t.num || d.next.access != h {
		return err
	}
	b := a.st.NewBatch()
	d.now.drop(b)
	d.now, d.next = d.next, pair{}
	setDevice(b, t.user, &d)
	err = a.st.Apply(b)
	a.Purge(t.user)
	return err
}

func unknownToken() error {
	return fault.E(fault.UnknownToken, "account.Authenticate", "the access token is unknown or was logged out")
}

func softLoggedOut() error {
	return fault.E(fault.SoftLoggedOut, "account.Authenticate", "the access token has expired")
}

func locked() error {
	return fault.E(fault.Locked, "account.Authenticate", "this account is locked")
}
