package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"hearth/engine"
	"hearth/engine/keyring"
)

const keyHelp = `hearth key list
hearth key rotate

Shows or renews the signing keys of a hub on this machine: by them other servers know that a message is the hub's.

  list    prints one key a line: its name, its public half, and since when it signs no more
  rotate  gives the hub a new key and retires the old one; the hub must not be running

A retired key stays published for ever, since old messages bear its signature, but its secret half is gone and nothing
can be signed with it. Rotate when somebody may have read the key's file or an old backup. Other servers learn of the
new key by themselves. The keys lie in signing.key and signing.key.copy in the data folder: back up one of them.

      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub is running, or the keys cannot be read or written
  2    wrong usage
`

// key shows or renews the signing keys.
func key(args []string, s streams) int {
	return told("key", keyHelp, s, func() error {
		f := &hubFlags{}
		fs := f.flags()
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) == 0:
			return usage("what shall be done? list or rotate")
		case words[0] != "list" && words[0] != "rotate":
			return usage("there is no %q; list and rotate there are", words[0])
		case len(words) > 1:
			return usage("unexpected argument %q", words[1])
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		own, err := engine.KeysIn(c.DataDir)
		if err != nil {
			return err
		}
		if own == nil {
			return fmt.Errorf("there are no signing keys in %s; --data-dir names another folder", folder(c))
		}
		if words[0] == "list" {
			listKeys(s.out, own)
			return nil
		}
		if _, err := askHub(c.DataDir, order{Do: "list", After: 1<<32 - 1}); !errors.Is(err, errNotRunning) {
			return errors.New("the hub is running; stop it, rotate, and start it again")
		}
		if _, err := os.Stat(c.DataDir); err != nil {
			return err
		}
		a, closeIt, err := ownEngine(c)
		if err != nil {
			return err
		}
		defer closeIt()
		if own, err = a.engine.RotateKey(); err != nil {
			return err
		}
		listKeys(s.out, own)
		return nil
	})
}

// listKeys prints the keys, those in use first.
func listKeys(w io.Writer, own *keyring.Own) {
	for _, k := range own.Current {
		public := k.Key.Public().(ed25519.PublicKey)
		fmt.Fprintf(w, "%-20s %s  in use\n", k.KeyID, base64.RawStdEncoding.EncodeToString(public))
	}
	for _, k := range own.Retired {
		fmt.Fprintf(w, "%-20s %s  retired %s\n", k.KeyID, base64.RawStdEncoding.EncodeToString(k.Public), k.Expired.Format("2006-01-02 15:04"))
	}
}
