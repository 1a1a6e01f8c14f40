package engine

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"strings"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// The signing key lives outside the database, in two copies: whoever loses it
// loses the server's name for good, since other servers remember it.
var signingFiles = [...]string{"signing.key", "signing.key.copy"}

// signer reads the signing key, or makes it for a server that has none yet.
// None is ever made for a name that is in use: without its key a server must
// not sign anything.
func signer(o *Options, server mxid.Server, inUse bool) (event.Signer, error) {
	files, dir := o.FS, o.Dir
	var missing []string
	var key string
	for _, name := range signingFiles {
		text, err := store.ReadFile(files, files.PathJoin(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return event.Signer{}, err
		case key == "":
			key = string(text)
		}
	}
	if key == "" {
		if inUse {
			return event.Signer{}, fault.E(fault.Corrupt, "engine.Open",
				"the signing key is missing: %s and %s are gone from %s; bring one of them back from a backup, a new key cannot take its place",
				signingFiles[0], signingFiles[1], dir)
		}
		var seed [ed25519.SeedSize]byte
		var id [3]byte
		if _, err := rand.Read(seed[:]); err != nil {
			return event.Signer{}, err
		}
		if _, err := rand.Read(id[:]); err != nil {
			return event.Signer{}, err
		}
		key = "ed25519 a_" + base64.RawURLEncoding.EncodeToString(id[:]) + " " + base64.RawStdEncoding.EncodeToString(seed[:]) + "\n"
		key = strings.Replace(key, "-", "_", 1)
	}
	for _, name := range missing {
		if o.ReadOnly {
			break
		}
		if err := store.WriteFile(files, files.PathJoin(dir, name), []byte(key)); err != nil {
			return event.Signer{}, err
		}
	}
	return parseKey(key, server)
}

// parseKey reads "ed25519", version and unpadded base64 of the seed, the form
// in which other servers keep their keys too.
func parseKey(text string, server mxid.Server) (event.Signer, error) {
	f := strings.Fields(text)
	if len(f) != 3 || f[0] != "ed25519" {
		return event.Signer{}, fault.E(fault.Corrupt, "engine.Open", "the signing key file is not of the form: ed25519 VERSION SEED")
	}
	seed, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f[2], "="))
	if err != nil || len(seed) != ed25519.SeedSize {
		return event.Signer{}, fault.E(fault.Corrupt, "engine.Open", "the signing key's seed is not %d bytes of base64", ed25519.SeedSize)
	}
	return event.Signer{Server: server, KeyID: "ed25519:" + f[1], Key: ed25519.NewKeyFromSeed(seed)}, nil
}
