package engine

import (
	"context"
	"errors"

	"hearth/engine/backup"
	"hearth/engine/fault"
)

// Backup copies the data folder into dest while the hub goes on; media says
// whether the files of media are copied, or their names listed only. Whoever
// closes the engine ends ctx first, and waits for Backup. See package backup.
//
// Errors: Busy while another one is made; those of backup.Write.
func (e *Engine) Backup(ctx context.Context, dest string, media bool) (*backup.Note, error) {
	if !e.backing.TryLock() {
		return nil, fault.E(fault.Busy, "engine.Backup", "a backup is being made already")
	}
	defer e.backing.Unlock()
	return backup.Write(ctx, e.st, dest, backup.Options{
		FS: e.files.FS, Dir: e.files.Dir, Server: e.Server, Tip: e.Tip(), Media: media, Now: e.clock.now,
	})
}

// BackupIdentity is Backup of a folder that has an identity service and nothing
// else, which does not run. Of the options it takes what OpenIdentity takes; without
// a name the folder's own counts.
func BackupIdentity(ctx context.Context, o Options, dest string) (note *backup.Note, err error) {
	s, err := openIdentity(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return backup.Write(ctx, s.st, dest, backup.Options{FS: o.FS, Dir: o.Dir, Server: s.name, Now: s.now})
}
