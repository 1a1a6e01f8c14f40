package engine

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/keyring"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// The signing keys live outside the database, in two copies: whoever loses them
// loses the server's name for good, since other servers remember it. A file has
// one line for each key, the one that signs first:
//
//	ed25519 NAME SEED
//	retired ed25519 NAME PUBLIC-KEY MILLISECONDS
//
// The first form is that in which other servers keep theirs. A retired key has
// no seed any more, so that nothing can be signed with it.
var signingFiles = [...]string{"signing.key", "signing.key.copy"}

// ownKeys reads the hub's keys, or makes one for a server that has none yet.
// None is ever made for a name that is in use: without its key a server must
// not sign anything.
func ownKeys(o *Options, server mxid.Server, inUse bool) (*keyring.Own, error) {
	own, missing, err := readKeys(o, server)
	if err != nil {
		return nil, err
	}
	if own == nil {
		if inUse {
			return nil, fault.E(fault.Corrupt, "engine.Open",
				"the signing key is missing: %s and %s are gone from %s; bring one of them back from a backup, a new key cannot take its place",
				signingFiles[0], signingFiles[1], o.Dir)
		}
		key, err := newKey(server)
		if err != nil {
			return nil, err
		}
		own = &keyring.Own{Server: server, Current: []event.Signer{key}}
	}
	if o.ReadOnly {
		missing = nil
	}
	return own, writeKeys(o, own, missing)
}

// readKeys reads the files, and names those that have to be written anew. Where
// they differ, a rotation was cut short between them: the one that has retired
// more keys is the newer. A file that cannot be read does not matter while the
// other can. own is nil where there is none.
func readKeys(o *Options, server mxid.Server) (own *keyring.Own, missing []string, err error) {
	var found [len(signingFiles)]*keyring.Own
	for i, name := range signingFiles {
		text, rerr := store.ReadFile(o.FS, o.FS.PathJoin(o.Dir, name))
		if errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		if rerr == nil {
			found[i], rerr = parseKeys(string(text), server)
		}
		if rerr != nil {
			err = rerr
			continue
		}
		if own == nil || len(found[i].Retired) > len(own.Retired) {
			own = found[i]
		}
	}
	if own == nil {
		return nil, signingFiles[:], err
	}
	for i, name := range signingFiles {
		if found[i] == nil || len(found[i].Retired) < len(own.Retired) {
			missing = append(missing, name)
		}
	}
	return own, missing, nil
}

// writeKeys writes the keys into files.
func writeKeys(o *Options, own *keyring.Own, files []string) error {
	for _, name := range files {
		if err := store.WriteFile(o.FS, o.FS.PathJoin(o.Dir, name), []byte(formatKeys(own))); err != nil {
			return err
		}
	}
	return nil
}

// newKey makes a key. Its name is of the characters that are allowed and no
// other key of the server has it.
func newKey(server mxid.Server) (event.Signer, error) {
	var seed [ed25519.SeedSize]byte
	var id [4]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return event.Signer{}, err
	}
	if _, err := rand.Read(id[:]); err != nil {
		return event.Signer{}, err
	}
	return event.Signer{Server: server, KeyID: "ed25519:a_" + hex.EncodeToString(id[:]), Key: ed25519.NewKeyFromSeed(seed[:])}, nil
}

func parseKeys(text string, server mxid.Server) (*keyring.Own, error) {
	bad := func(why string) (*keyring.Own, error) {
		return nil, fault.E(fault.Corrupt, "engine.Open", "a file of signing keys cannot be read: %s", why)
	}
	own := &keyring.Own{Server: server}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case len(f) == 3 && f[0] == "ed25519":
			seed, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f[2], "="))
			if err != nil || len(seed) != ed25519.SeedSize {
				return bad("a seed is not " + strconv.Itoa(ed25519.SeedSize) + " bytes of base64")
			}
			own.Current = append(own.Current, event.Signer{Server: server, KeyID: "ed25519:" + f[1], Key: ed25519.NewKeyFromSeed(seed)})
		case len(f) == 5 && f[0] == "retired" && f[1] == "ed25519":
			pub, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f[3], "="))
			ms, err2 := strconv.ParseInt(f[4], 10, 64)
			if err != nil || err2 != nil || len(pub) != ed25519.PublicKeySize {
				return bad("a retired key is not of the form: retired ed25519 NAME PUBLIC-KEY MILLISECONDS")
			}
			own.Retired = append(own.Retired, keyring.Retired{KeyID: "ed25519:" + f[2], Public: pub, Expired: time.UnixMilli(ms)})
		default:
			return bad("a line is not of the form: ed25519 NAME SEED")
		}
	}
	if len(own.Current) == 0 {
		return bad("there is no key in it that signs")
	}
	return own, nil
}

func formatKeys(own *keyring.Own) string {
	var b strings.Builder
	for _, s := range own.Current {
		b.WriteString("ed25519 " + strings.TrimPrefix(s.KeyID, "ed25519:") + " " + base64.RawStdEncoding.EncodeToString(s.Key.Seed()) + "\n")
	}
	for _, r := range own.Retired {
		b.WriteString("retired ed25519 " + strings.TrimPrefix(r.KeyID, "ed25519:") + " " +
			base64.RawStdEncoding.EncodeToString(r.Public) + " " + strconv.FormatInt(r.Expired.UnixMilli(), 10) + "\n")
	}
	return b.String()
}

// OwnKeys are the hub's signing keys; nobody writes to them.
func (e *Engine) OwnKeys() *keyring.Own { return e.own }

// KeysIn reads the signing keys of a data folder, which may be in use; nil where
// it has none. The server's name is not among them.
func KeysIn(dir string) (*keyring.Own, error) {
	own, _, err := readKeys(&Options{Dir: dir, FS: store.Disk()}, "")
	return own, err
}

// RotateKey retires the keys in use and gives the hub another, which signs from
// the next opening of the folder on: the engine must be closed at once, and must
// not have served. The retired keys stay published for ever. Error: Full on a
// disk that cannot be written.
func (e *Engine) RotateKey() (*keyring.Own, error) {
	if e.st.ReadOnly() {
		return nil, fault.E(fault.Full, "engine.RotateKey", "the data folder cannot be written")
	}
	next, err := newKey(e.Server)
	if err != nil {
		return nil, err
	}
	// Not before the newest event that an old key has signed.
	own := &keyring.Own{Server: e.Server, Current: []event.Signer{next}, Retired: slices.Clone(e.own.Retired)}
	for _, s := range e.own.Current {
		own.Retired = append(own.Retired, keyring.Retired{KeyID: s.KeyID, Public: s.Key.Public().(ed25519.PublicKey), Expired: e.clock.now()})
	}
	if err := writeKeys(e.files, own, signingFiles[:]); err != nil {
		return nil, err
	}
	return own, nil
}

// Answers of other servers about keys, in bytes.
const (
	maxKeyAnswer    = 64 << 10
	maxNotaryAnswer = 4 << 20
)

// openKeys opens the ring of signing keys: those of other servers are asked for
// through the peer that federation has.
func (e *Engine) openKeys(o *Options) (err error) {
	ko := keyring.Options{Server: e.Server, Notaries: o.Notaries, Witnesses: o.Witnesses, Now: e.clock.now, Log: o.Log}
	ko.Keep = func(server mxid.Server) (was bool) {
		err := e.Rooms.RoomsWith(server, func(room.Num, stream.Pos, stream.Pos) bool {
			was = true
			return false
		})
		return was || err != nil
	}
	if p := o.Federation.Peer; p != nil {
		allowed := func(s mxid.Server) bool {
			return len(o.Federation.Allow) == 0 || slices.Contains(o.Federation.Allow, s)
		}
		ask := func(ctx context.Context, r *federation.Request) ([]byte, error) {
			if !allowed(r.Dest) {
				return nil, fault.E(fault.Forbidden, "engine.Keys", "this hub does not federate with %s", r.Dest)
			}
			a, err := p.Do(ctx, r)
			if err != nil {
				return nil, err
			}
			if a.Status != 200 {
				return nil, fault.E(fault.Remote, "engine.Keys", "%s answered %d", r.Dest, a.Status)
			}
			return a.Body, nil
		}
		ko.Fetch = func(ctx context.Context, server mxid.Server) ([]byte, error) {
			return ask(ctx, &federation.Request{Dest: server, Method: "GET", Path: "/_matrix/key/v2/server", MaxAnswer: maxKeyAnswer})
		}
		ko.Ask = func(ctx context.Context, notary mxid.Server, body []byte) ([]byte, error) {
			return ask(ctx, &federation.Request{Dest: notary, Method: "POST", Path: "/_matrix/key/v2/query", Body: body, MaxAnswer: maxNotaryAnswer})
		}
	}
	if e.Keys, err = keyring.Open(e.st, ko); err == nil {
		e.Keys.SetOwn(e.own)
	}
	return err
}
