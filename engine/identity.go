package engine

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/identity"
	"hearth/engine/keyring"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// IdentityService is the identity service of a hub, or one that stands alone,
// with what it needs of homeservers.
type IdentityService struct {
	Records *identity.Records

	name  mxid.Server
	peer  federation.Peer // nil: it stands alone
	may   func(s mxid.Server) bool
	keys  *keyring.Keys
	local *Engine // nil: no homeserver is here
	now   func() time.Time

	st      *store.Store // its own; nil: the hub's
	stop    chan struct{}
	running sync.WaitGroup
}

// OpenIdentity makes the hub an identity service too. It ends with the engine.
func (e *Engine) OpenIdentity() (*IdentityService, error) {
	records, err := identity.Open(e.st, identity.Options{Name: e.Server, Dir: e.files.Dir, FS: e.files.FS, Now: e.clock.now, Log: e.say})
	if err != nil {
		return nil, err
	}
	s := &IdentityService{Records: records, name: e.Server, peer: e.peer, may: e.Federation.Reaches, keys: e.Keys, local: e, now: e.clock.now}
	e.running.Go(func() { records.Run(e.stop, s.tell) })
	e.hears.Store(s)
	return s, nil
}

// OpenIdentity opens a folder that has an identity service and nothing else. Of
// the options it takes Dir, FS, Server, the sizes, Federation's Peer and Allow,
// Now and Log. Close ends it.
func OpenIdentity(o Options) (*IdentityService, error) {
	s, err := openIdentity(o)
	if err == nil {
		s.running.Go(func() { s.Records.Run(s.stop, s.tell) })
	}
	return s, err
}

// openIdentity is OpenIdentity of a service that tells nobody anything.
func openIdentity(o Options) (*IdentityService, error) {
	if o.FS == nil {
		o.FS = store.Disk()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	st, err := openStore(&o)
	if err != nil {
		return nil, err
	}
	s := &IdentityService{name: o.Server, peer: o.Federation.Peer, now: o.Now, st: st, stop: make(chan struct{})}
	if err := s.open(&o); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

// ErrIdentity is why a folder does not open as a hub's.
var ErrIdentity = errors.New("an identity service that stands alone")

// metaAlone names the service that a folder is of.
const metaAlone = "identity/alone"

func (s *IdentityService) open(o *Options) (err error) {
	const op = "engine.OpenIdentity"
	if _, hub, err := s.st.Meta(metaServer); err != nil {
		return err
	} else if hub {
		return fault.E(fault.Invalid, op, "the data folder is that of a hub, which has its identity service by identity = \"on\"")
	}
	kept, ok, err := s.st.Meta(metaAlone)
	if err != nil {
		return err
	}
	if ok && s.name == "" {
		s.name = mxid.Server(kept)
	}
	if _, err := mxid.ParseServer(string(s.name)); err != nil {
		return err
	}
	if ok && string(kept) != string(s.name) {
		return fault.E(fault.Invalid, op, "the data folder is that of the identity service %s and cannot become that of %s", kept, s.name)
	}
	if !ok {
		b := s.st.NewBatch()
		b.SetMeta(metaAlone, []byte(s.name))
		if err := s.st.Commit(b); err != nil {
			return err
		}
	}
	allow := o.Federation.Allow
	s.may = func(to mxid.Server) bool { return len(allow) == 0 || slices.Contains(allow, to) }
	ko := keyring.Options{Server: s.name, Now: o.Now, Log: o.Log, Keep: func(mxid.Server) bool { return false }}
	if s.peer != nil {
		ko.Fetch = func(ctx context.Context, server mxid.Server) ([]byte, error) {
			return s.ask(ctx, &federation.Request{Dest: server, Method: "GET", Path: "/_matrix/key/v2/server", MaxAnswer: maxKeyAnswer})
		}
	}
	if s.keys, err = keyring.Open(s.st, ko); err != nil {
		return err
	}
	s.Records, err = identity.Open(s.st, identity.Options{Name: s.name, Dir: o.Dir, FS: o.FS, Now: o.Now, Log: o.Log})
	return err
}

// Close ends a service that stands alone.
func (s *IdentityService) Close() error {
	close(s.stop)
	s.running.Wait()
	return errors.Join(s.keys.Close(), s.st.Close())
}

// ask asks a homeserver without a signature.
func (s *IdentityService) ask(ctx context.Context, r *federation.Request) ([]byte, error) {
	const op = "engine.Identity"
	if s.peer == nil || !s.may(r.Dest) {
		return nil, fault.E(fault.Forbidden, op, "%s is not spoken with", r.Dest)
	}
	a, err := s.peer.Do(ctx, r)
	switch {
	case err != nil:
		return nil, err
	case a.Status/100 == 4 && a.Status != 404 && a.Status != 405 && a.Status != 429:
		return nil, fault.E(fault.Invalid, op, "%s answers %s", r.Dest, strconv.Itoa(a.Status))
	case a.Status/100 != 2 || cjson.Check(a.Body) != nil:
		return nil, fault.E(fault.Remote, op, "%s answers %s", r.Dest, strconv.Itoa(a.Status))
	}
	return a.Body, nil
}

// UserInfo asks a homeserver whose OpenID token it is.
// Spec: server-server, GET /openid/userinfo.
func (s *IdentityService) UserInfo(ctx context.Context, server mxid.Server, token string) (mxid.UserID, error) {
	if s.local != nil && server == s.name {
		return s.local.Accounts.OpenIDUser(token)
	}
	body, err := s.ask(ctx, &federation.Request{
		Dest: server, Method: "GET", Path: "/_matrix/federation/v1/openid/userinfo?access_token=" + url.QueryEscape(token), MaxAnswer: 64 << 10,
	})
	if err != nil {
		return "", err
	}
	sub, _ := cjson.LookupString(body, "sub")
	return mxid.ParseUser(sub)
}

// Authenticate finds out which homeserver made a request; see federation.Signed.
func (s *IdentityService) Authenticate(ctx context.Context, r *federation.Signed) (mxid.Server, error) {
	return r.Signer(s.name, func(server mxid.Server, obj []byte) error {
		return s.keys.VerifyJSON(ctx, server, obj, s.now())
	})
}

// tell tells a homeserver of an address that one of its users has bound.
// Spec: server-server, PUT /3pid/onbind.
func (s *IdentityService) tell(ctx context.Context, server mxid.Server, body []byte) error {
	if s.local != nil && server == s.name {
		list, _ := cjson.Lookup(body, "invites")
		var away error
		err := cjson.Array(list, func(invite []byte) bool {
			if err := s.local.Bound(ctx, invite); err != nil {
				away = err
			}
			return ctx.Err() == nil
		})
		return errors.Join(err, away)
	}
	_, err := s.ask(ctx, &federation.Request{Dest: server, Method: "PUT", Path: "/_matrix/federation/v1/3pid/onbind", Body: body, MaxAnswer: 64 << 10})
	return err
}
