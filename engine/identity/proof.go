package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"math/big"
	"sync"
	"time"

	"hearth/engine/fault"
)

const (
	// proofLife is how long a proof serves after it last changed.
	// Spec: identity service, establishing associations.
	proofLife = 24 * time.Hour
	// proofMemory is for how long it is known that one has expired.
	proofMemory = 2 * proofLife
	maxProofs   = 2048
	// Messages that an address gets, and that one asker has sent, in a day.
	perAddress = 5
	perOrigin  = 20
	// maxWrong is how many wrong codes a proof bears. Of six digits, ten tries at
	// each of five messages a day find one in twenty thousand.
	maxWrong = 10
)

// proof is an address that is being proved.
type proof struct {
	sid, secret string
	address     Address
	origin      string // who asked
	code        string
	next        string // where a browser goes afterwards; empty: nowhere
	attempt     int64
	sent        []time.Time // when messages went out, of the last day
	wrong       int
	proved      time.Time // zero: not yet
	changed     time.Time
}

// proofs are all that are under way.
type proofs struct {
	now  func() time.Time
	mu   sync.Mutex
	open map[string]*proof // by sid
}

// Want is what a client asks for when it begins a proof.
type Want struct {
	Address Address
	Secret  string
	Attempt int64
	Next    string // a link, or empty
	Origin  string // who asks, as messages are counted
}

// Begun is a proof that was begun.
type Begun struct {
	SID  string
	Code string // to be sent; empty where the client repeats itself
}

// Begin begins a proof, or goes on with the one of the same address and secret.
// Error: Limit where enough messages were sent.
// Spec: identity service, POST /validate/email/requestToken, /validate/msisdn/requestToken.
func (s *Records) Begin(w Want) (Begun, error) {
	ps := &s.proofs
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := ps.now()
	byAddress, byOrigin := 0, 0
	var have, oldest *proof
	for sid, p := range ps.open {
		p.forget(now)
		if now.Sub(p.changed) > proofMemory {
			delete(ps.open, sid)
			continue
		}
		if p.address == w.Address {
			byAddress += len(p.sent)
			if p.secret == w.Secret && now.Sub(p.changed) <= proofLife {
				have = p
			}
		}
		if p.origin == w.Origin {
			byOrigin += len(p.sent)
		}
		if oldest == nil || p.changed.Before(oldest.changed) {
			oldest = p
		}
	}
	if have != nil && (w.Attempt <= have.attempt || !have.proved.IsZero()) {
		return Begun{SID: have.sid}, nil
	}
	if byAddress >= perAddress || byOrigin >= perOrigin {
		return Begun{}, fault.Wait("identity.Begin", time.Hour)
	}
	if have == nil {
		if len(ps.open) >= maxProofs {
			delete(ps.open, oldest.sid)
		}
		have = &proof{sid: random(12), secret: w.Secret, address: w.Address, origin: w.Origin, code: newCode(w.Address)}
		ps.open[have.sid] = have
	}
	have.attempt, have.next, have.changed = w.Attempt, w.Next, now
	have.sent = append(have.sent, now)
	return Begun{SID: have.sid, Code: have.code}, nil
}

// newCode is short for who has to type it, and cannot be guessed by who has not:
// see maxWrong.
func newCode(a Address) string {
	if a.Medium != "msisdn" {
		return random(24)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return random(24) // the system's randomness never fails
	}
	return fmt.Sprintf("%06d", n)
}

// forget drops messages of more than a day ago.
func (p *proof) forget(now time.Time) {
	for len(p.sent) > 0 && now.Sub(p.sent[0]) > 24*time.Hour {
		p.sent = p.sent[1:]
	}
}

// Unsent takes back that a message went out.
func (s *Records) Unsent(sid string) {
	ps := &s.proofs
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.open[sid]; p != nil && len(p.sent) > 0 {
		p.sent = p.sent[:len(p.sent)-1]
		p.attempt--
	}
}

// find needs mu. Errors: NoProof, ProofExpired.
func (ps *proofs) find(sid, secret string) (*proof, error) {
	p := ps.open[sid]
	if p == nil || subtle.ConstantTimeCompare([]byte(p.secret), []byte(secret)) == 0 {
		return nil, fault.E(fault.NoProof, "identity.proof", "")
	}
	if ps.now().Sub(p.changed) > proofLife {
		return nil, fault.E(fault.ProofExpired, "identity.proof", "")
	}
	return p, nil
}

// Submit completes a proof by the code that was sent, and gives the link to which
// a browser goes then.
//
// Errors: NoProof, ProofExpired (also after too many wrong codes), WrongCode.
// Spec: identity service, POST /validate/email/submitToken, /validate/msisdn/submitToken.
func (s *Records) Submit(sid, secret, code string) (next string, err error) {
	ps := &s.proofs
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, err := ps.find(sid, secret)
	if err != nil {
		return "", err
	}
	if p.wrong >= maxWrong {
		return "", fault.E(fault.ProofExpired, "identity.Submit", "too many wrong codes were given; begin another proof")
	}
	if subtle.ConstantTimeCompare([]byte(p.code), []byte(code)) == 0 {
		p.wrong++
		return "", fault.E(fault.WrongCode, "identity.Submit", "")
	}
	if p.proved.IsZero() {
		p.proved = ps.now()
		p.changed = p.proved
	}
	return p.next, nil
}

// Proved gives the address of a complete proof, and when it was proved.
//
// Errors: NoProof, ProofExpired, ProofOpen.
// Spec: identity service, GET /3pid/getValidated3pid.
func (s *Records) Proved(sid, secret string) (Address, time.Time, error) {
	ps := &s.proofs
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, err := ps.find(sid, secret)
	if err != nil {
		return Address{}, time.Time{}, err
	}
	if p.proved.IsZero() {
		return Address{}, time.Time{}, fault.E(fault.ProofOpen, "identity.Proved", "")
	}
	return p.address, p.proved, nil
}
