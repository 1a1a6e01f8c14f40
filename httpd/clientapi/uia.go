package clientapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
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

// The stages of user-interactive authentication that the hub knows.
const (
	stageDummy    = "m.login.dummy"
	stagePassword = "m.login.password"
	stageToken    = "m.login.registration_token"
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

	mu   sync.Mutex
	open map[string]*exchange // by session id
}

// exchange is one operation that waits for its stages.
type exchange struct {
	id     string
	op     string // method and route: a session is good for one operation
	user   uint32 // whose operation; 0 where nobody is logged in
	params [sha256.Size]byte
	body   []byte // the first request's, for clients that send the auth alone later; nil when too large
	flows  [][]string
	done   []string // guarded by interactive.mu, as are the next two
	token  string   // registration token that is reserved
	until  time.Time
}

// question is one request that needs interactive authentication.
type question struct {
	op    string
	user  uint32
	id    mxid.UserID // of user
	flows [][]string
	body  []byte // a JSON object
	loose bool   // the parameters may change between the stages
	only  string // the one registration token that is good; empty: each
}

// challenge is the answer that asks for more: status 401 with the flows.
type challenge struct {
	id    string
	flows [][]string
	done  []string
	cause error // why the last attempt was not good; nil where there was none
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
		dst = append(appendStrings(append(dst, `"completed":`...), c.done), ',')
	}
	dst = append(dst, `"flows":[`...)
	for i, stages := range c.flows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendStrings(append(dst, `{"stages":`...), stages), '}')
	}
	dst = append(dst, `],"params":{},"session":`...)
	return append(cjson.AppendString(dst, c.id), '}')
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, s)
	}
	return append(dst, ']')
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
	return slices.ContainsFunc(x.flows, func(stages []string) bool { return slices.Equal(stages, x.done) })
}

// stage tries the stage that auth names.
func (u *interactive) stage(x *exchange, q *question, auth []byte) error {
	typ, ok := cjson.LookupString(auth, "type")
	if !ok {
		if _, present := cjson.Lookup(auth, "type"); present {
			return fault.E(fault.BadJSON, "clientapi.auth", "the type of auth must be a string")
		}
		// The session alone: the client asks how things stand, unless it is one
		// of those that log in without naming the stage.
		return nil
	}
	u.mu.Lock()
	done, next := slices.Contains(x.done, typ), x.next(typ)
	u.mu.Unlock()
	switch {
	case done:
		return nil
	case !next:
		return u.challenge(x, fault.E(fault.Unrecognised, "clientapi.auth", "%s is not a stage that could come now", typ))
	}
	var token string
	switch typ {
	case stagePassword:
		if err := u.password(x, q, auth); err != nil {
			return err
		}
	case stageToken:
		var isText bool
		if token, isText = cjson.LookupString(auth, "token"); !isText {
			return fault.E(fault.Missing, "clientapi.auth", "the stage needs a token")
		}
		if q.only != "" && subtle.ConstantTimeCompare([]byte(q.only), []byte(token)) == 0 {
			return u.challenge(x, fault.E(fault.Unauthorised, "clientapi.auth", "the registration token is not valid"))
		}
		if err := u.accounts.Reserve(token); err != nil {
			return u.retry(x, err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.Contains(x.done, typ) || u.open[x.id] != x {
		if token != "" { // another request was first, or the exchange has ended
			u.accounts.Free(token)
		}
		return nil
	}
	x.done = append(x.done, typ)
	if token != "" {
		x.token = token
	}
	return nil
}

// password takes the stage of that name: it must be the password of the user
// whose operation it is.
func (u *interactive) password(x *exchange, q *question, auth []byte) error {
	id, err := loginName(auth, u.accounts.Server())
	if err != nil {
		return err
	}
	password, ok := cjson.LookupString(auth, "password")
	if !ok {
		return fault.E(fault.Missing, "clientapi.auth", "the stage needs a password")
	}
	if id == "" {
		id = q.id // who is logged in need not say it again
	}
	user, err := u.accounts.CheckPassword(id, password)
	if err != nil {
		return u.retry(x, err)
	}
	if user != q.user {
		return fault.E(fault.Forbidden, "clientapi.auth", "this is not the user whose request it is")
	}
	return nil
}

// next says whether the stage could come after those that are done.
func (x *exchange) next(typ string) bool {
	for _, stages := range x.flows {
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
	return &challenge{id: x.id, flows: x.flows, done: slices.Clone(x.done), cause: cause}
}

func (u *interactive) find(session string, q *question) *exchange {
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.open[session]
	if x == nil || x.op != q.op || x.user != q.user || u.now().After(x.until) {
		return nil
	}
	return x
}

// begin opens an exchange. When there are too many, the one that would end
// first has to go: whoever asks in vain for thousands only pushes out their own.
func (u *interactive) begin(q *question, params [sha256.Size]byte) (*exchange, error) {
	var b [18]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("clientapi: %w", err)
	}
	x := &exchange{
		id: base64.RawURLEncoding.EncodeToString(b[:]), op: q.op, user: q.user, params: params,
		flows: q.flows, until: u.now().Add(exchangeLife),
	}
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

// tokenOf is the registration token that an exchange was proved with; empty
// where it was another stage.
func (u *interactive) tokenOf(x *exchange) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return x.token
}

// drop needs mu.
func (u *interactive) drop(x *exchange) {
	delete(u.open, x.id)
	if x.token != "" {
		u.accounts.Free(x.token)
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

// loginName reads who an identifier, or the older members beside it, means.
// Empty means that none is named. Spec: client-server, identifier types.
func loginName(obj []byte, server mxid.Server) (mxid.UserID, error) {
	const op = "clientapi.login"
	name, has := cjson.Lookup(obj, "user")
	if ident, ok := cjson.Lookup(obj, "identifier"); ok {
		if cjson.KindOf(ident) != cjson.ObjectKind {
			return "", fault.E(fault.BadJSON, op, "the identifier must be an object")
		}
		typ, _ := cjson.Lookup(ident, "type")
		switch kind, isText := cjson.String(typ); {
		case !isText:
			return "", fault.E(fault.BadJSON, op, "the identifier needs a type")
		case kind != "m.id.user":
			return "", fault.E(fault.Unknown, op, "the hub knows no identifiers of the type %q", kind)
		}
		name, has = cjson.Lookup(ident, "user")
		if !has {
			return "", fault.E(fault.Missing, op, "the identifier needs a user")
		}
	}
	if !has {
		return "", nil
	}
	text, ok := cjson.String(name)
	if !ok {
		return "", fault.E(fault.BadJSON, op, "the user must be a string")
	}
	if text == "" || text[0] != '@' {
		return mxid.UserID("@" + text + ":" + string(server)), nil
	}
	return mxid.UserID(text), nil
}
