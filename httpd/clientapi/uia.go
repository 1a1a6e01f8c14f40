package clientapi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

const (
	maxExchanges = 512
	// exchangeLife is how long a person may take to type their password.
	exchangeLife = 15 * time.Minute
	// maxRemembered bounds the first request's body that an exchange keeps.
	maxRemembered = 4 << 10
)

// interactive keeps the exchanges of user-interactive authentication that are
// under way. They are in memory only: after a restart people begin anew.
// Spec: client-server, user-interactive authentication API.
type interactive struct {
	accounts *account.Accounts
	now      func() time.Time
	proofs   *validations
	renewals *renewals

	mu   sync.Mutex
	open map[string]*exchange // by session id
}

// exchange is one operation that waits for its stages.
type exchange struct {
	id     string
	params [sha256.Size]byte
	body   []byte   // the first request's, for clients that send the auth alone later; nil when too large
	q      question // what it began with, but for the body
	done   []string // guarded by interactive.mu, as is all that follows
	got    proof
	agree  string // what the person who logged in at a provider agrees with; empty: nobody did
	until  time.Time
}

// question is one request that needs interactive authentication.
type question struct {
	op      string      // a session is good for one operation
	user    uint32      // whose; 0 where nobody is logged in
	id      mxid.UserID // of user
	flows   [][]string
	body    []byte  // a JSON object
	loose   bool    // the parameters may change between the stages
	only    string  // the one registration token that is good; empty: each
	params  string  // what clients have to know for stages: a JSON object; empty: {}
	purpose purpose // of the proofs of addresses that are good
}

// challenge is the answer that asks for more: status 401 with the flows.
type challenge struct {
	id     string
	flows  [][]string
	params string
	done   []string
	cause  error // why the last attempt was not good; nil where there was none
}

func (c *challenge) Error() string { return "clientapi: interactive authentication is not complete" }

// append writes the challenge's JSON; errcode is the cause's, where it has one.
func (c *challenge) append(dst []byte, errcode, text string) []byte {
	dst = append(dst, '{')
	if c.cause != nil {
		dst = cjson.AppendString(append(dst, `"errcode":`...), errcode)
		dst = cjson.AppendString(append(dst, `,"error":`...), text)
		dst = append(dst, ',')
	}
	if len(c.done) > 0 {
		dst = append(cjson.AppendStrings(append(dst, `"completed":`...), c.done), ',')
	}
	dst = append(dst, `"flows":[`...)
	for i, stages := range c.flows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendStrings(append(dst, `{"stages":`...), stages), '}')
	}
	dst = append(dst, `],"params":`...)
	if c.params == "" {
		dst = append(dst, '{', '}')
	}
	dst = append(append(dst, c.params...), `,"session":`...)
	return append(cjson.AppendString(dst, c.id), '}')
}

// prove takes one request's stage. It gives the exchange, and the body that
// holds the operation's parameters, once a flow is complete; until then the
// error is a *challenge. The caller calls end when the operation has been done.
func (u *interactive) prove(q *question) (*exchange, []byte, error) {
	auth, has := cjson.Lookup(q.body, "auth")
	if has && cjson.KindOf(auth) != cjson.ObjectKind && cjson.KindOf(auth) != cjson.NullKind {
		return nil, nil, fault.E(fault.BadJSON, "clientapi.auth", "auth must be an object")
	}
	has = has && cjson.KindOf(auth) == cjson.ObjectKind
	params, bare, err := digest(q.body)
	if err != nil {
		return nil, nil, fault.E(fault.BadJSON, "clientapi.auth", "%w", err)
	}
	session, _ := cjson.LookupString(auth, "session")
	x := u.find(session, q)
	switch {
	case x == nil:
		if x, err = u.begin(q, params); err != nil {
			return nil, nil, err
		}
		if session != "" {
			return nil, nil, u.challenge(x, fault.E(fault.Unknown, "clientapi.auth", "the session is unknown or has ended"))
		}
	case bare && x.body != nil:
		q.body = x.body
	case !q.loose && x.params != params:
		return nil, nil, fault.E(fault.Forbidden, "clientapi.auth", "the request has changed since its session began")
	}
	if !has {
		return nil, nil, u.challenge(x, nil)
	}
	if err := u.stage(x, q, auth); err != nil {
		return nil, nil, err
	}
	if !u.complete(x) {
		return nil, nil, u.challenge(x, nil)
	}
	return x, q.body, nil
}

func (u *interactive) complete(x *exchange) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(x.q.flows, func(stages []string) bool { return slices.Equal(stages, x.done) })
}

// next says whether the stage could come after those that are done.
func (x *exchange) next(typ string) bool {
	for _, stages := range x.q.flows {
		n := len(x.done)
		if n < len(stages) && stages[n] == typ && slices.Equal(stages[:n], x.done) {
			return true
		}
	}
	return false
}

// retry makes a challenge of an error that a second attempt may mend; others
// stay what they are.
func (u *interactive) retry(x *exchange, err error) error {
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthorised) {
		return u.challenge(x, err)
	}
	return err
}

func (u *interactive) challenge(x *exchange, cause error) *challenge {
	u.mu.Lock()
	defer u.mu.Unlock()
	return &challenge{id: x.id, flows: x.q.flows, params: x.q.params, done: slices.Clone(x.done), cause: cause}
}

func (u *interactive) find(session string, q *question) *exchange {
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.open[session]
	if x == nil || x.q.op != q.op || x.q.user != q.user || u.now().After(x.until) {
		return nil
	}
	return x
}

// begin opens an exchange. When there are too many, the one that would end
// first has to go, whosever it is: what keeps one asker from pushing out all
// others is the rate limit of the routes that come here.
func (u *interactive) begin(q *question, params [sha256.Size]byte) (*exchange, error) {
	var b [18]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("clientapi: %w", err)
	}
	x := &exchange{
		id: base64.RawURLEncoding.EncodeToString(b[:]), params: params, q: *q, until: u.now().Add(exchangeLife),
	}
	x.q.body = nil
	if len(q.body) <= maxRemembered {
		x.body = slices.Clone(q.body)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.open) >= maxExchanges {
		var oldest *exchange
		for _, o := range u.open {
			if oldest == nil || o.until.Before(oldest.until) {
				oldest = o
			}
		}
		u.drop(oldest)
	}
	u.open[x.id] = x
	return x, nil
}

// end forgets an exchange whose operation has been done.
func (u *interactive) end(x *exchange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[x.id] == x {
		u.drop(x)
	}
}

// proof is what the stages of an exchange have shown.
type proof struct {
	token           string // registration token, which is reserved; empty: another stage
	who             uint32 // the user whose password it was
	medium, address string // that were proved; empty: none
	sid             string // by this validation
	server          string // the identity server that older clients name for it
}

func (u *interactive) proofOf(x *exchange) proof {
	u.mu.Lock()
	defer u.mu.Unlock()
	return x.got
}

// session finds an exchange for the page of one of its stages.
func (u *interactive) session(id string) *exchange {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x := u.open[id]; x != nil && !u.now().After(x.until) {
		return x
	}
	return nil
}

// drop needs mu.
func (u *interactive) drop(x *exchange) {
	delete(u.open, x.id)
	if x.got.token != "" {
		u.accounts.Free(x.got.token)
	}
}

// digest hashes a body without its auth. bare says that nothing else was in it.
func digest(body []byte) (sum [sha256.Size]byte, bare bool, err error) {
	body, err = cjson.Canonical(nil, body, false)
	if err != nil {
		return sum, false, err
	}
	h := sha256.New()
	bare = true
	err = cjson.Object(body, func(key, val []byte) bool {
		if string(key) != "auth" {
			bare = false
			fmt.Fprintf(h, "%d:%s%d:%s", len(key), key, len(val), val)
		}
		return true
	})
	h.Sum(sum[:0])
	return sum, bare, err
}
