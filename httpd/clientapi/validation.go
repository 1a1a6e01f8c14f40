package clientapi

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
)

// purpose is what an address is proved for: a proof is good for that alone, so
// that a link that makes an account cannot set somebody's password.
type purpose uint8

const (
	forAccount purpose = iota + 1
	forRegister
	forPassword
)

const (
	maxValidations = 1024
	// validationLife is how long the link in a mail is good.
	validationLife = 24 * time.Hour
	// mailsPerAddress is how many mails an address gets in that time, whoever
	// asks for them.
	mailsPerAddress = 8
	// codeTries is how often a code may be mistyped: it is short, so that people
	// can type it, and must not be guessed.
	codeTries = 5
)

// validation is an address that is being proved.
type validation struct {
	sid, secret string
	purpose     purpose
	medium      string
	address     string
	tries       int    // of the code in a text message that were wrong
	token       string // what the link in the mail carries, or the code in the text message
	next        string // where the browser goes afterwards; empty: nowhere
	attempt     int64  // of the newest mail
	mails       int
	proved      time.Time // zero: not yet
	until       time.Time
}

// validations keeps the addresses that are being proved. They are in memory
// only: after a restart people ask for another mail.
type validations struct {
	now  func() time.Time
	mu   sync.Mutex
	open map[string]*validation // by sid
}

// want is what a client asks for.
type want struct {
	purpose purpose
	secret  string
	medium  string
	address string
	attempt int64
	next    string
}

// begin finds or makes the validation. send says whether a mail is due: not
// where the client repeats itself. The result is a copy.
func (vs *validations) begin(w want) (v validation, send bool, err error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	mails := 0
	var have *validation
	for sid, o := range vs.open {
		switch {
		case vs.now().After(o.until):
			delete(vs.open, sid)
		case o.medium == w.medium && o.address == w.address:
			mails += o.mails
			if o.purpose == w.purpose && o.secret == w.secret {
				have = o
			}
		}
	}
	if have != nil && (w.attempt <= have.attempt || !have.proved.IsZero()) {
		return *have, false, nil
	}
	if mails >= mailsPerAddress {
		return v, false, fault.Wait("clientapi.requestToken", time.Hour)
	}
	if have == nil {
		if have, err = vs.add(w); err != nil {
			return v, false, err
		}
	}
	have.attempt, have.next = w.attempt, w.next
	have.mails++
	return *have, true, nil
}

// add needs mu. When there are too many, the one that would end first goes.
func (vs *validations) add(w want) (*validation, error) {
	var b [36]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("clientapi: %w", err)
	}
	if len(vs.open) >= maxValidations {
		var first *validation
		for _, o := range vs.open {
			if first == nil || o.until.Before(first.until) {
				first = o
			}
		}
		delete(vs.open, first.sid)
	}
	enc := base64.RawURLEncoding
	v := &validation{
		sid: enc.EncodeToString(b[:12]), token: enc.EncodeToString(b[12:]), secret: w.secret, purpose: w.purpose,
		medium: w.medium, address: w.address, until: vs.now().Add(validationLife),
	}
	if w.medium == account.Phone {
		v.token = fmt.Sprintf("%06d", binary.BigEndian.Uint64(b[12:])%1_000_000)
	}
	vs.open[v.sid] = v
	return v, nil
}

// failed takes back that a mail was sent.
func (vs *validations) failed(sid string) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if v := vs.open[sid]; v != nil {
		v.mails--
		v.attempt--
	}
}

// confirm takes the token of a mail. It gives a copy of what it proved.
func (vs *validations) confirm(sid, secret, token string) (v validation, err error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	o := vs.find(sid, secret)
	if o == nil || o.tries >= codeTries || subtle.ConstantTimeCompare([]byte(o.token), []byte(token)) == 0 {
		if o != nil && o.medium == account.Phone {
			o.tries++
		}
		return v, fault.E(fault.ThreepidAuth, "clientapi.confirm", "the link or code is not valid, or no longer: ask for another message")
	}
	if o.proved.IsZero() {
		o.proved = vs.now()
	}
	return *o, nil
}

// get finds a validation, for the page of its link. It gives a copy.
func (vs *validations) get(sid, secret string) (v validation, ok bool) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	o := vs.find(sid, secret)
	if o == nil {
		return v, false
	}
	return *o, true
}

// find needs mu.
func (vs *validations) find(sid, secret string) *validation {
	o := vs.open[sid]
	if o == nil || vs.now().After(o.until) || subtle.ConstantTimeCompare([]byte(o.secret), []byte(secret)) == 0 {
		return nil
	}
	return o
}

// proved finds an address that was proved for the purpose.
func (vs *validations) proved(sid, secret string, p purpose) (v validation, ok bool) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	o := vs.find(sid, secret)
	if o == nil || o.purpose != p || o.proved.IsZero() {
		return v, false
	}
	return *o, true
}

// used ends a proof that has served.
func (vs *validations) used(sid string) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.open, sid)
}
