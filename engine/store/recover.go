package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// The stages of a recovery, so that one which a power cut ends is gone on with:
// the mark in the folder stands from before anything is changed until the loss
// is written down; a new folder counts once it is whole.
const (
	lossMark  = "loss\n" // text of damageMark: something was taken away and is not yet written down
	wholeMark = "whole"  // file in a folder that a salvage has finished
	newSuffix = ".new"

	damagedSuffix = ".damaged-"
	stamp         = "20060102-150405"
)

// jump is how far all numberings go on after a loss: what was given and lost
// must not be given again.
const jump = 1_000_000

// Findings are what a recovery found.
type Findings struct {
	Time  time.Time
	Lost  []Loss
	Kept  string // where the damaged files were kept; empty where nothing was changed
	Notes []string
}

// Loss is one damaged file.
type Loss struct {
	File string
	Rows int    // rows or batches of it that are lost, as far as that can be told
	Why  string // what the disk or the database said
}

func (r *Findings) lose(file string, rows int, err error) {
	why := "a damaged record"
	if err != nil {
		why = err.Error()
	}
	for i := range r.Lost {
		if r.Lost[i].File == file {
			r.Lost[i].Rows += rows
			return
		}
	}
	r.Lost = append(r.Lost, Loss{file, rows, why})
}

func (r *Findings) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Text is the report for the owner.
func (r *Findings) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hearth found its store damaged and recovered it on %s.\n", r.Time.UTC().Format(time.RFC3339))
	for _, l := range r.Lost {
		switch {
		case l.Rows > 0:
			fmt.Fprintf(&b, "- %s is damaged, about %d rows of it are lost (%s)\n", l.File, l.Rows, l.Why)
		default:
			fmt.Fprintf(&b, "- %s is damaged or gone (%s)\n", l.File, l.Why)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	if r.Kept != "" {
		fmt.Fprintf(&b, "The damaged files are kept in %s; delete it when you need them no more.\n", r.Kept)
		b.WriteString("Everybody has to log in again, and clients send their one-time keys anew.\n")
	}
	return b.String()
}

// recovery is one under way.
type recovery struct {
	opts   Options
	files  FS
	dir    string
	aside  string // where damaged files are kept
	report *Findings
}

// Recover makes a damaged store usable again, when Open has refused it as
// Corrupt. Logs are cut where they are damaged; a damaged or missing table, or
// manifest, has all that can be read written to a new folder that takes the old
// one's place. Nothing is thrown away: the damaged files are kept beside it. A
// report stays in the folder above the store. After a loss the store has a new
// incarnation, all numberings go on far beyond what may have been given, and
// access tokens and one-time keys are void, since their deletion may be lost.
func Recover(opts Options) (*Findings, error) {
	r := &recovery{opts: opts, files: opts.FS, dir: opts.Dir, report: &Findings{Time: time.Now()}}
	if r.files == nil {
		r.files = vfs.Default
	}
	r.opts.FS = r.files
	_ = r.opts.settle() // what it cannot tell of a damaged store is as in a new one
	r.aside = opts.Dir + damagedSuffix + r.report.Time.UTC().Format(stamp)
	for base, n := r.aside, 2; ; n++ {
		if _, err := r.files.Stat(r.aside); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		r.aside = fmt.Sprintf("%s-%d", base, n)
	}
	lock, err := pebble.LockDirectory(r.dir, r.files)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lost, err := r.repair()
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	if lost {
		if err := r.void(); err != nil {
			return nil, err
		}
	} else if len(r.report.Lost)+len(r.report.Notes) == 0 {
		r.report.note("a file had been found damaged, and can be read now")
	}
	if err := r.write(lost); err != nil {
		return nil, err
	}
	return r.report, r.unmark()
}

// write leaves the report in the folder above the store.
func (r *recovery) write(lost bool) error {
	above := r.files.PathDir(r.dir)
	names, err := r.files.List(above)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		// The newest; after a power cut it has an earlier time than this try.
		if lost && strings.HasPrefix(name, r.files.PathBase(r.dir)+damagedSuffix) {
			r.report.Kept = r.files.PathJoin(above, name)
		}
	}
	name := r.files.PathJoin(above, "recovered-"+r.report.Time.UTC().Format(stamp)+".txt")
	return WriteFile(r.files, name, []byte(r.report.Text()))
}

// repair has the store open again, and says whether something was lost.
func (r *recovery) repair() (lost bool, err error) {
	mark, err := ReadFile(r.files, r.files.PathJoin(r.dir, damageMark))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	lost = string(mark) == lossMark
	tables, whole := r.tables()
	if whole {
		whole = r.checkTables(tables, len(mark) > 0 && !lost)
	}
	if !whole {
		return true, r.salvage(tables)
	}
	cut, err := r.cutLogs()
	if err != nil || cut {
		return cut || lost, err
	}
	return lost, r.dropOptions()
}

// hideFS shows a folder without some of its files, and with some that are not there.
type hideFS struct {
	vfs.FS
	hidden  func(name string) bool
	feigned []string
}

func (h *hideFS) List(dir string) ([]string, error) {
	list, err := h.FS.List(dir)
	return append(slices.DeleteFunc(list, h.hidden), h.feigned...), err
}

func (h *hideFS) Unwrap() vfs.FS { return h.FS }

// look opens the database to be read, whatever tables it lacks, and hands it to
// f: without those files that hidden names, and as if the feigned were there.
func (r *recovery) look(feigned []string, hidden func(name string) bool, f func(db *pebble.DB) error) (err error) {
	s := &Store{fs: r.files, dir: r.dir, readOnly: true, gate: newGate(), last: &lastWords{opened: true}, die: func(string, ...any) {}}
	s.cache = pebble.NewCache(1 << 20)
	defer s.cache.Unref()
	opts := r.opts
	opts.ReadOnly, opts.Log, opts.MemTable = true, nil, max(opts.MemTable, 256<<10)
	o := s.tuning(opts, &hideFS{FS: &unlockedFS{r.files}, hidden: hidden, feigned: feigned}, s.last)
	o.DisableConsistencyCheck = true
	defer func() {
		// Damaged files can say what no code expects.
		if p := recover(); p != nil {
			err = corrupt("%v", p)
		}
	}()
	db, err := pebble.Open(r.dir, o)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

// opens says whether the database opens without the files that hidden names.
func (r *recovery) opens(hidden func(name string) bool) error {
	return r.look(nil, hidden, func(*pebble.DB) error { return nil })
}

// unlockedFS is for a folder whose lock is held already.
type unlockedFS struct{ vfs.FS }

func (unlockedFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (u unlockedFS) Unwrap() vfs.FS { return u.FS }

// isOptions says whether a name is that of Pebble's own note of its options,
// which it refuses to open without understanding.
func isOptions(name string) bool { return strings.HasPrefix(name, "OPTIONS-") }

// table names and the sizes the manifest gives them; 0 where it does not.
type tableSizes map[string]uint64

// tables lists the tables that are alive. Where the manifest cannot be read
// that is every table there is, and whole is false.
func (r *recovery) tables() (list tableSizes, whole bool) {
	list, err := r.alive()
	if err == nil {
		return list, true
	}
	r.report.lose("the manifest", 0, err)
	names, err := r.files.List(r.dir)
	if err != nil {
		return list, false
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			list[name] = 0
		}
	}
	return list, false
}

// missingTable finds the number of a table that the database does not find.
var missingTable = regexp.MustCompile(`file (\d+) \(type `)

// alive asks the manifest which tables are alive. A table that is missing is
// shown to be there, or Pebble would tell of none.
func (r *recovery) alive() (list tableSizes, err error) {
	list = tableSizes{}
	if err := checkManifest(r.files, r.dir); err != nil {
		return list, err
	}
	var feigned []string
	for {
		err := r.look(feigned, func(name string) bool { return isLog(name) || isOptions(name) }, func(db *pebble.DB) error {
			levels, err := db.SSTables()
			for _, level := range levels {
				for _, t := range level {
					list[t.BackingSSTNum.String()+".sst"] = t.Size
				}
			}
			return err
		})
		if err == nil {
			return list, nil
		}
		m := missingTable.FindStringSubmatch(err.Error())
		if m == nil || slices.Contains(feigned, m[1]+".sst") {
			return list, err
		}
		feigned = append(feigned, m[1]+".sst")
	}
}

// checkTables says whether the tables are all there, and, with read, whether
// all of them can be read.
func (r *recovery) checkTables(list tableSizes, read bool) (whole bool) {
	whole = true
	for _, name := range list.sorted() {
		path := r.files.PathJoin(r.dir, name)
		info, err := r.files.Stat(path)
		if err == nil && uint64(info.Size()) != list[name] {
			err = corrupt("it has %d bytes, %d are expected", info.Size(), list[name])
		}
		if err == nil && read {
			err = r.checkTable(path)
		}
		if err != nil {
			r.report.lose(name, 0, err)
			whole = false
		}
	}
	return whole
}

func (l tableSizes) sorted() []string {
	names := make([]string, 0, len(l))
	for name := range l {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (r *recovery) checkTable(path string) error {
	t, err := openTable(r.files, path, r.pebbleOptions())
	if err != nil {
		return err
	}
	defer t.close()
	return t.r.ValidateBlockChecksums()
}

// pebbleOptions are what tables are read and a new database is written with.
func (r *recovery) pebbleOptions() *pebble.Options {
	s := &Store{fs: r.files, gate: newGate(), die: logger{opts: r.opts}.Fatalf}
	opts := r.opts
	opts.ReadOnly = false
	if opts.MemTable == 0 {
		opts.MemTable = defaultMemTable
	}
	last := &lastWords{opened: true}
	s.last = last
	o := s.tuning(opts, r.files, last)
	o.EnsureDefaults()
	return o
}

// walNumber finds which log Pebble stopped in: it says so only in the details.
var walNumber = regexp.MustCompile(`replaying wal (\d+),`)

// badLog finds the number of the log that keeps the store from opening.
func badLog(err error) (num wal.NumWAL, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		detailed, is := err.(interface{ ErrorDetail() string })
		if !is {
			continue
		}
		if m := walNumber.FindStringSubmatch(detailed.ErrorDetail()); m != nil {
			n, err := strconv.ParseUint(m[1], 10, 64)
			return wal.NumWAL(n), err == nil
		}
	}
	return 0, false
}

// cutLogs cuts the damaged log, if one is, and takes away those after it: they
// go on from what is lost.
func (r *recovery) cutLogs() (cut bool, err error) {
	logs, err := readLogs(r.files, r.dir)
	if err != nil || len(logs) == 0 {
		return false, err
	}
	bad := -1
	if err = r.opens(isOptions); err == nil {
		if checkLastLog(r.files, r.dir) == nil {
			return false, nil
		}
		bad = len(logs) - 1
	} else if num, ok := badLog(err); ok {
		bad = slices.IndexFunc(logs, func(ll wal.LogicalLog) bool { return ll.Num == num })
	}
	if bad < 0 {
		return false, fmt.Errorf("store: it does not open, and no log is to blame: %w", err)
	}
	if err := WriteFile(r.files, r.files.PathJoin(r.dir, damageMark), []byte(lossMark)); err != nil {
		return false, err
	}
	// The last goes first: a power cut must leave no log behind a missing one.
	for _, ll := range slices.Backward(logs[bad+1:]) {
		st, err := readLog(ll, nil)
		if err != nil {
			return true, err
		}
		path := r.files.PathJoin(r.dir, st.name)
		if err := errors.Join(keepAside(r.files, path, r.aside), r.files.Remove(path), SyncDir(r.files, r.dir)); err != nil {
			return true, err
		}
		r.report.lose(st.name, st.records+st.lost, errors.New("it goes on from a damaged log"))
	}
	st, err := readLog(logs[bad], nil)
	if err != nil {
		return true, err
	}
	r.report.lose(st.name, st.lost, fmt.Errorf("damaged at byte %d, after %d sound batches", st.good, st.records))
	return true, cutLog(r.files, r.dir, r.aside, st)
}

// dropOptions takes away Pebble's notes of its options where it is they that
// keep the store from opening. Nothing is lost with them.
func (r *recovery) dropOptions() error {
	if r.opens(func(string) bool { return false }) == nil {
		return nil
	}
	names, lerr := r.files.List(r.dir)
	if lerr != nil {
		return lerr
	}
	for _, name := range names {
		if isOptions(name) {
			r.report.note("%s was damaged and is made anew, nothing was in it that cannot be", name)
			if err := r.files.Remove(r.files.PathJoin(r.dir, name)); err != nil {
				return err
			}
		}
	}
	return SyncDir(r.files, r.dir)
}

// unmark takes the mark of damage away.
func (r *recovery) unmark() error {
	err := r.files.Remove(r.files.PathJoin(r.dir, damageMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, SyncDir(r.files, r.dir))
}

// salvage writes what can be read of the tables and logs to a new folder, and
// puts that in the old one's place.
func (r *recovery) salvage(tables tableSizes) error {
	fresh := r.dir + newSuffix
	if err := r.files.RemoveAll(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(r.files, fresh); err != nil {
		return err
	}
	s := &salvage{files: r.files, dir: r.dir, options: r.pebbleOptions(), report: r.report}
	for _, name := range tables.sorted() {
		s.addTable(name)
	}
	if err := s.addLogs(); err != nil {
		return err
	}
	o := r.pebbleOptions()
	o.DisableWAL = true // a cut that ends it has it begin anew
	db, err := pebble.Open(fresh, o)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	b := db.NewBatch()
	err = s.each(func(row *row) error {
		if err := b.Set(row.key, row.val, nil); err != nil || b.Len() < 1<<18 {
			return err
		}
		err := b.Commit(pebble.NoSync)
		b = db.NewBatch()
		return err
	})
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err == nil {
		err = db.Flush()
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("store: salvage: %w", err)
	}
	if err := WriteFile(r.files, r.files.PathJoin(fresh, damageMark), []byte(lossMark)); err != nil {
		return err
	}
	if err := WriteFile(r.files, r.files.PathJoin(fresh, wholeMark), nil); err != nil {
		return err
	}
	if err := r.files.Rename(r.dir, r.aside); err != nil {
		return err
	}
	return takeSalvaged(r.files, r.dir)
}

// takeSalvaged puts a salvaged folder in its place, where a power cut came
// before that.
func takeSalvaged(files FS, dir string) error {
	fresh := dir + newSuffix
	if _, err := files.Stat(dir); err == nil {
		return nil
	}
	if _, err := files.Stat(files.PathJoin(fresh, wholeMark)); err != nil {
		return nil
	}
	return errors.Join(files.Rename(fresh, dir), SyncDir(files, files.PathDir(dir)))
}

// void writes the loss down: no tokens and no one-time keys either.
func (r *recovery) void() error { return Renew(r.opts, Token, OneTimeKey) }

// Renew makes a store one that goes on differently from what it is a copy of: it
// gets a new incarnation, its numberings go on far beyond what may have been
// given since, and the rows of some tables are dropped. Nobody may have it open.
func Renew(opts Options, drop ...Table) error {
	opts.ReadOnly, opts.Ballast = false, false
	s, err := open(opts)
	if err != nil {
		return err
	}
	b := s.NewBatch()
	b.Frees()
	for _, t := range drop {
		b.DeleteRange(t.Prefix(), After(t.Prefix()))
	}
	var inc [8]byte
	if _, err = rand.Read(inc[:]); err == nil {
		b.Set(metaIncarnation, inc[:])
		err = s.raise(b)
	}
	if err == nil {
		b.Set(metaFormat, binary.AppendUvarint(nil, s.format))
		err = s.Commit(b)
	}
	return errors.Join(err, s.Close())
}
