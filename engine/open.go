package engine

import (
	"strings"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// openStore opens the database of the data folder. One that is damaged is
// recovered first; one whose disk cannot be written is opened read-only, and
// o.ReadOnly says so from then on.
func openStore(o *Options) (*store.Store, error) {
	so := store.Options{
		Dir: o.FS.PathJoin(o.Dir, "store"), FS: o.FS, CacheBytes: o.CacheBytes, MemTable: o.MemTable, ReadOnly: o.ReadOnly,
		KeepFormat: o.KeepFormat, Ballast: o.Ballast, Log: o.Log, Fatal: o.Fatal,
	}
	log := o.Log
	if log == nil {
		log = func(string, ...any) {}
	}
	st, err := store.Open(so)
	if fault.Is(err, fault.Corrupt) && !o.ReadOnly {
		log("%v", err)
		report, rerr := store.Recover(so)
		if rerr != nil {
			return nil, fault.E(fault.Corrupt, "engine.Open", "the store is damaged (%v) and cannot be recovered: %w", err, rerr)
		}
		for line := range strings.Lines(report.Text()) {
			log("%s", strings.TrimSpace(line))
		}
		st, err = store.Open(so)
	}
	if err != nil && !o.ReadOnly && store.Unwritable(err) {
		log("the data folder cannot be written, the hub is read-only: %v", err)
		o.ReadOnly, so.ReadOnly = true, true
		var again error
		if st, again = store.Open(so); again != nil {
			return nil, fault.E(fault.KindOf(again), "engine.Open", "the data folder can be neither written (%v) nor read: %w", err, again)
		}
		return st, nil
	}
	return st, err
}

// ReadOnly says whether the hub was opened on a disk that cannot be written:
// then all that would change something is refused with an error of kind Full.
func (e *Engine) ReadOnly() bool { return e.st.ReadOnly() }
