// Package backup copies a hub's data folder while the hub runs, and makes a data
// folder of such a copy.
//
// A backup is a folder that looks like a data folder: the store as it was at one
// moment, signing keys and certificates, files of media, and beside them a list
// of the media and a note. The note is written last, so that a backup that was
// cut short is never taken for one. The store's copy is first made within the
// data folder, where it costs hard links and no time: the hub waits for nothing
// while it is brought to a slow disk.
//
// Files of media are copied after the store. A file that came in between has no
// row in it, and is swept up by the hub that is made of the backup; one that was
// deleted in between is counted.
//
// It refuses to write where something is already: neither into an older backup
// nor over a hub. It does not encrypt: whoever can read a backup has the hub's
// signing keys.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Names within a data folder and a backup. What else lies in a data folder as a
// file is taken along; of folders only these are.
const (
	storeFolder = "store"
	mediaFolder = "media"
	acmeFolder  = "acme"

	noteFile  = "backup.json"
	mediaList = "media.list"

	scratch = "backup.tmp"  // in the data folder while a backup is made
	arrival = "restore.tmp" // in the data folder while one is restored
)

// fileLimit is how big a file may be that is taken along: keys, certificates
// and reports are smaller.
const fileLimit = 1 << 20

// noteForm is the form of backups that this program writes and reads.
const noteForm = 1

// Note is what a backup says of itself.
type Note struct {
	Form   int         `json:"form"`
	Server mxid.Server `json:"server"`
	Made   time.Time   `json:"made"`
	Tip    uint64      `json:"tip"`   // of the log, when it was begun
	Media  bool        `json:"media"` // the files are in it, not their names only
	Files  int         `json:"files"` // of media
	Bytes  int64       `json:"bytes"` // of media
}

// Options are what a backup is made with.
type Options struct {
	FS     store.FS // nil: the real disk
	Dir    string   // the data folder
	Server mxid.Server
	Tip    uint64
	Media  bool // copy the files of media, and do not only list them
	Now    func() time.Time
}

// Write makes a backup of a data folder that st is open in. dest must not be
// there, or be empty; after an error it is as it was. One backup is made at a time.
//
// Errors: Invalid where dest cannot be taken; those of the disk and of ctx.
func Write(ctx context.Context, st *store.Store, dest string, o Options) (*Note, error) {
	if o.FS == nil {
		o.FS = store.Disk()
	}
	c := copier{ctx: ctx, fs: o.FS, links: true}
	existed, err := c.vacant(dest)
	if err != nil {
		return nil, err
	}
	w := writing{copier: c, o: &o, dest: dest, note: Note{Form: noteForm, Server: o.Server, Made: o.Now().UTC(), Tip: o.Tip, Media: o.Media}}
	tmp := o.FS.PathJoin(o.Dir, scratch)
	if err = o.FS.RemoveAll(tmp); err == nil {
		err = st.Backup(tmp)
	}
	if err == nil {
		err = w.all(tmp)
	}
	if err != nil {
		left := c.empty(dest, existed)
		return nil, errors.Join(err, left, o.FS.RemoveAll(tmp))
	}
	return &w.note, o.FS.RemoveAll(tmp)
}

// writing is a backup on its way.
type writing struct {
	copier
	o    *Options
	dest string
	note Note
}

// all writes the backup, with the store from where its copy lies.
func (w *writing) all(tmp string) error {
	if err := w.folder(w.dest); err != nil {
		return err
	}
	if err := w.tree(tmp, w.fs.PathJoin(w.dest, storeFolder)); err != nil {
		return err
	}
	if err := w.beside(w.o.Dir, w.dest); err != nil {
		return err
	}
	if err := w.media(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(&w.note, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(w.fs, w.fs.PathJoin(w.dest, noteFile), append(text, '\n'))
}

// media lists the files of media, a name and its bytes a line, and copies them
// where that is asked for.
func (w *writing) media() (err error) {
	from, to := w.fs.PathJoin(w.o.Dir, mediaFolder), w.fs.PathJoin(w.dest, mediaFolder)
	list, err := store.CreateFile(w.fs, w.fs.PathJoin(w.dest, mediaList))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	for shard := range 256 {
		sub := fmt.Sprintf("%02x", shard)
		names, err := w.names(w.fs.PathJoin(from, sub))
		if err != nil {
			return err
		}
		if w.o.Media && len(names) > 0 {
			if err := w.folder(w.fs.PathJoin(to, sub)); err != nil {
				return err
			}
		}
		for _, name := range names {
			size, err := w.mediaFile(w.fs.PathJoin(from, sub, name), w.fs.PathJoin(to, sub, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err == nil {
				_, err = fmt.Fprintf(list, "%s/%s %d\n", sub, name, size)
			}
			if err != nil {
				return err
			}
			w.note.Files++
			w.note.Bytes += size
		}
	}
	return list.Sync()
}

func (w *writing) mediaFile(from, to string) (int64, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	info, err := w.fs.Stat(from)
	if err == nil && w.o.Media {
		err = w.file(from, to, true)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Restoring says how a backup becomes a data folder.
type Restoring struct {
	FS     store.FS // nil: the real disk
	LogOut bool     // all sessions end; otherwise those that were ended since the backup are valid again
}

// Restore makes a data folder of a backup. The folder may exist, but hold no hub.
// The store in it gets a new incarnation, and no one-time keys: they may have
// been given out since. The store takes its place last: a restore that was cut
// short leaves no hub, and can be made again. absent is how many files of media
// are listed and not in the backup.
//
// Errors: Invalid where there is no whole backup, or dir holds a hub; those of
// the disk and of ctx.
func Restore(ctx context.Context, from, dir string, o Restoring) (note *Note, absent int, err error) {
	if o.FS == nil {
		o.FS = store.Disk()
	}
	c := copier{ctx: ctx, fs: o.FS} // no links: the hub writes on in what it finds
	if note, err = c.readNote(from); err != nil {
		return nil, 0, err
	}
	tmp := o.FS.PathJoin(dir, arrival)
	if err = c.mayRestore(from, dir); err != nil {
		return nil, 0, err
	}
	if err = o.FS.RemoveAll(tmp); err == nil {
		err = c.folder(dir)
	}
	if err == nil {
		err = c.tree(o.FS.PathJoin(from, storeFolder), tmp)
	}
	if err != nil {
		return nil, 0, err
	}
	drop := []store.Table{store.OneTimeKey}
	if o.LogOut {
		drop = append(drop, store.Token)
	}
	if err = store.Renew(store.Options{Dir: tmp, FS: o.FS}, drop...); err != nil {
		return nil, 0, err
	}
	if err = c.beside(from, dir); err != nil {
		return nil, 0, err
	}
	if absent, err = c.takeMedia(from, dir); err != nil {
		return nil, 0, err
	}
	if err = o.FS.Rename(tmp, o.FS.PathJoin(dir, storeFolder)); err == nil {
		err = store.SyncDir(o.FS, dir)
	}
	return note, absent, err
}

// readNote reads what a backup says of itself.
func (c *copier) readNote(from string) (*Note, error) {
	text, err := store.ReadFile(c.fs, c.fs.PathJoin(from, noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.E(fault.Invalid, "backup.Restore", "%s is no backup, or one that was cut short: it has no %s", from, noteFile)
	}
	var n Note
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return nil, fault.E(fault.Invalid, "backup.Restore", "%s in %s cannot be read: %w", noteFile, from, err)
	}
	if n.Form != noteForm {
		return nil, fault.E(fault.Invalid, "backup.Restore", "the backup is of form %d, this program reads form %d", n.Form, noteForm)
	}
	return &n, nil
}

// takeMedia copies the files of media, and counts those that are listed only.
func (c *copier) takeMedia(from, dir string) (absent int, err error) {
	list, err := c.fs.Open(c.fs.PathJoin(from, mediaList))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	made := ""
	for {
		var name string
		var size int64
		switch n, err := fmt.Fscanln(list, &name, &size); {
		case n == 0 && errors.Is(err, io.EOF):
			return absent, nil
		case err != nil:
			return absent, fault.E(fault.Corrupt, "backup.Restore", "%s cannot be read: %w", mediaList, err)
		case !mediaName(name):
			return absent, fault.E(fault.Corrupt, "backup.Restore", "%s names %q, which is no file of media", mediaList, name)
		}
		source := c.fs.PathJoin(from, mediaFolder, name)
		if _, err := c.fs.Stat(source); errors.Is(err, fs.ErrNotExist) {
			absent++
			continue
		}
		if sub := c.fs.PathJoin(dir, mediaFolder, name[:2]); sub != made {
			if err := c.folder(sub); err != nil {
				return absent, err
			}
			made = sub
		}
		if err := c.file(source, c.fs.PathJoin(dir, mediaFolder, name), true); err != nil {
			return absent, err
		}
	}
}

// mediaName says whether a name is of the form that the list has: two digits, a
// slash, and a name of digits and what thumbnails have behind it.
func mediaName(name string) bool {
	if len(name) < 4 || name[2] != '/' {
		return false
	}
	for i, b := range []byte(name) {
		switch {
		case i == 2, b >= '0' && b <= '9', b >= 'a' && b <= 'z':
		case b == '.' && i > 3:
		default:
			return false
		}
	}
	return true
}
