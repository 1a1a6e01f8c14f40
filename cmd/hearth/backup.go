package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine"
	"hearth/engine/backup"
	"hearth/engine/fault"
)

const backupHelp = `hearth backup FOLDER [--no-media]

Copies the hub's data into FOLDER, which must be new or empty: the store as it is at one moment, the signing keys and
certificates, and the files that people shared. An identity service that stands alone is stopped first. A running hub is asked to do it and goes on meanwhile; where none runs,
the data folder is read. On the same disk the copy shares what it can with the hub and costs little; a backup that
survives that disk lies on another one. It is not encrypted, and whoever can read it has the hub's keys.

      --no-media           only list the files that people shared, in media.list, for what copies them by itself
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not; FOLDER is as it was
  2    wrong usage

Example:
  hearth backup /media/usb/hearth-$(date +%F)
`

const restoreHelp = `hearth restore FOLDER [--log-out]

Makes a data folder of a backup. It refuses where there is a hub already. What the hub said and heard since the backup
is gone: clients begin anew, and one-time keys that may have been given out since are dropped. Never run the hub that
was backed up again once the restored one has served: both are the same server.

      --log-out            end all sessions; otherwise those that were ended since the backup are valid again
      --data-dir FOLDER    HEARTH_DATA_DIR   where the hub's data go, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    there is a hub, no whole backup, or it could not be done; a second try may follow
  2    wrong usage

Example:
  hearth restore /media/usb/hearth-2026-05-04 --data-dir /var/lib/hearth && hearth verify --data-dir /var/lib/hearth
`

// folderArg reads the flags, and the one folder, of a command.
func folderArg(fs *flag.FlagSet, args []string) (string, error) {
	words, err := wordsOf(fs, args)
	if err != nil {
		return "", err
	}
	if len(words) != 1 || words[0] == "" {
		return "", usage("name one folder")
	}
	return filepath.Abs(words[0])
}

// untilSignal is a context that ends with an interrupt.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// backupSelf makes a backup of a folder that no hub runs on: a hub's, or one of an
// identity service that stands alone.
func backupSelf(c *config.Config, dest string, media bool) (*backup.Note, error) {
	ctx, end := untilSignal()
	defer end()
	a, done, err := ownEngine(c)
	if errors.Is(err, engine.ErrIdentity) {
		return engine.BackupIdentity(ctx, engine.Options{Dir: c.DataDir}, dest)
	}
	if err != nil {
		return nil, err
	}
	defer done()
	return a.engine.Backup(ctx, dest, media)
}

// backupCmd copies the data folder.
func backupCmd(args []string, s streams) int {
	return told("backup", backupHelp, s, func() error {
		f, none := &hubFlags{}, false
		fs := f.flags()
		fs.BoolVar(&none, "no-media", false, "")
		dest, err := folderArg(fs, args)
		if err != nil {
			return err
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		var n *backup.Note
		if conn, derr := dialControl(c.DataDir); derr == nil {
			n, err = askBackup(conn, order{Do: "backup", Name: dest, Media: !none})
		} else {
			if _, serr := os.Stat(filepath.Join(c.DataDir, "store")); serr != nil {
				return fmt.Errorf("there is no hub in %s: %w", folder(c), serr)
			}
			n, err = backupSelf(c, dest, !none)
		}
		if err != nil {
			return err
		}
		what := "copied"
		if none {
			what = "listed"
		}
		fmt.Fprintf(s.out, "%s is backed up in %s: up to position %d of its log; %d files of media %s, %d bytes.\n", n.Server, dest, n.Tip, n.Files, what, n.Bytes)
		return nil
	})
}

// askBackup has a running hub make a backup, and waits for as long as that takes.
func askBackup(conn net.Conn, o order) (*backup.Note, error) {
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return nil, fmt.Errorf("the hub does not listen: %w", err)
	}
	var r report
	switch err := json.NewDecoder(conn).Decode(&r); {
	case err != nil:
		return nil, fmt.Errorf("the hub does not answer: %w", err)
	case r.Error != "":
		return nil, errors.New(r.Error)
	case r.Backup == nil:
		return nil, errors.New("the hub does not know backups: it is of another version")
	}
	return r.Backup, nil
}

// backup makes a backup for whoever is at the socket, until the hub ends or they
// hang up.
func (c *control) backup(conn net.Conn, o order) report {
	if !c.backing.TryLock() {
		return report{Error: "a backup is being made already"}
	}
	defer c.backing.Unlock()
	if err := errors.Join(c.life.Err(), conn.SetReadDeadline(time.Time{})); err != nil {
		return report{Error: "the hub ends"} // and its engine may be closed
	}
	ctx, end := context.WithCancel(c.life)
	defer end()
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // ends when they hang up, or when serve closes the connection
		end()
	}()
	n, err := c.admin.engine.Backup(ctx, o.Name, o.Media)
	c.log.Info("management", "order", o.Do, "folder", o.Name, "err", err)
	switch {
	case errors.Is(err, context.Canceled):
		return report{Error: "the hub ends; nothing was backed up"}
	case err != nil:
		return report{Error: plainText(err)}
	}
	return report{Backup: n}
}

// restore makes a data folder of a backup.
func restore(args []string, s streams) int {
	return told("restore", restoreHelp, s, func() error {
		f, o := &hubFlags{}, backup.Restoring{}
		fs := f.flags()
		fs.BoolVar(&o.LogOut, "log-out", false, "")
		from, err := folderArg(fs, args)
		if err != nil {
			return err
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		if running(c.DataDir) {
			return fault.E(fault.Invalid, "hearth.restore", "a hub is running on %s", folder(c))
		}
		ctx, end := untilSignal()
		defer end()
		n, absent, err := backup.Restore(ctx, from, c.DataDir, o)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s holds %s as it was on %s.\n", folder(c), n.Server, n.Made.Format("2006-01-02 15:04 MST"))
		if absent > 0 {
			fmt.Fprintf(s.out, "%d files of media are not in the backup: put them into %s, under the names in media.list.\n", absent, filepath.Join(c.DataDir, "media"))
		}
		return nil
	})
}
