package federation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// spool keeps the events of a join from when they come, in any order, until they
// can go to the room, each behind those that authorise it. What is in memory of
// an event is its id and its references; the rest lies in memory only while all
// is small, then in a file.
type spool struct {
	f     *Federation
	v     *event.Version
	in    mxid.RoomID
	from  mxid.Server
	index map[mxid.EventID]int32
	list  []spooled

	batch []*event.Event // not verified yet
	bytes int            // of the batch
	mem   []byte
	file  store.File // nil while mem has it all
	name  string
	size  int64

	aside      []*event.Event      // whose signers do not answer
	asideBytes int                 // of those
	residents  map[mxid.Server]int // members that are joined, by server

	create  int32 // index of the create event; -1 while it has not come
	dropped int   // events that were not good
}

type spooled struct {
	id     mxid.EventID
	auth   []int32
	off    int64
	len    int32 // 0: referred to, and not here
	state  bool
	marked bool // while they are put in order
}

// Bounds of one join. A room beyond them is none for a hub.
const (
	maxSpooled   = 150_000   // events and ids that are referred to
	maxSpool     = 512 << 20 // bytes
	memSpool     = 1 << 20   // bytes that are kept in memory rather than in a file
	spoolFree    = 128 << 20 // bytes of the disk that a file leaves free
	verifyEvents = 1024      // events that are verified at once
	verifyBytes  = 1 << 20
	maxAside     = 4 << 20 // bytes of events whose signers do not answer
	maxResidents = 1024    // servers whose members are counted
)

func (f *Federation) newSpool(v *event.Version, in mxid.RoomID, from mxid.Server) *spool {
	return &spool{f: f, v: v, in: in, from: from, index: map[mxid.EventID]int32{}, residents: map[mxid.Server]int{}, create: -1}
}

// close removes what was written.
func (s *spool) close() error {
	s.mem, s.index, s.list = nil, nil, nil
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), s.f.o.FS.Remove(s.name))
}

// at gives the place of an id, made where there is none.
func (s *spool) at(id mxid.EventID) (int32, error) {
	i, ok := s.index[id]
	if !ok {
		if len(s.list) >= maxSpooled {
			return 0, fault.E(fault.Remote, "federation.Join", "the room's state has more than %d events", maxSpooled)
		}
		i = int32(len(s.list))
		s.index[id] = i
		s.list = append(s.list, spooled{id: id})
	}
	return i, nil
}

// add takes an event as it came. What is malformed or of another room is left
// out: rooms have a past. state says that it is part of the room's state.
func (s *spool) add(ctx context.Context, raw []byte, state bool) error {
	e, _, err := event.Receive(s.v, raw)
	if err != nil || e.Room != s.in {
		s.dropped++
		return nil
	}
	i, err := s.at(e.ID)
	if err != nil {
		return err
	}
	p := &s.list[i]
	if p.state = p.state || state && e.IsState; p.len != 0 {
		return nil
	}
	p.len = int32(len(e.JSON))
	s.batch = append(s.batch, e)
	if s.bytes += len(e.JSON); len(s.batch) == verifyEvents || s.bytes >= verifyBytes {
		return s.verify(ctx)
	}
	return nil
}

// verify checks the signatures of what came last, and writes what is good.
func (s *spool) verify(ctx context.Context) error {
	batch := s.batch
	s.batch, s.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	if err := s.spacious(); err != nil {
		return err
	}
	errs := s.f.o.VerifyEvents(ctx, s.v, batch)
	if err := ctx.Err(); err != nil {
		return fault.E(fault.Remote, "federation.Join", "it took too long: %w", err)
	}
	for i, e := range batch {
		if errs[i] != nil {
			s.list[s.index[e.ID]].len = 0
			if fault.Is(errs[i], fault.Remote) && s.asideBytes < maxAside {
				s.aside = append(s.aside, e)
				s.asideBytes += len(e.JSON)
			} else {
				s.dropped++
			}
			continue
		}
		if err := s.write(e); err != nil {
			return err
		}
	}
	return nil
}

// recall checks what servers have signed that do not answer, now that it is known
// who else is in the room.
func (s *spool) recall(ctx context.Context) error {
	aside := s.aside
	s.aside, s.asideBytes = nil, 0
	if len(aside) == 0 {
		return nil
	}
	errs := s.f.o.VerifyPast(ctx, s.v, aside, s.witnesses())
	for i, e := range aside {
		if errs[i] != nil {
			s.dropped++
			continue
		}
		s.list[s.index[e.ID]].len = int32(len(e.JSON))
		if err := s.write(e); err != nil {
			return err
		}
	}
	return nil
}

// witnesses are servers that are in the room: the one that tells of it, and those
// that most of its people are of.
func (s *spool) witnesses() []mxid.Server {
	var others []mxid.Server
	for server := range s.residents {
		if server != s.from && server != s.f.server && s.f.Allowed(server) {
			others = append(others, server)
		}
	}
	slices.SortFunc(others, func(a, b mxid.Server) int {
		return cmp.Or(cmp.Compare(s.residents[b], s.residents[a]), cmp.Compare(a, b))
	})
	return append([]mxid.Server{s.from}, others[:min(len(others), maxSources)]...)
}

// spacious refuses to write where little of the disk is left: what is spooled may be
// large, and the database must never meet a full disk.
func (s *spool) spacious() error {
	if s.file == nil {
		return nil
	}
	if free, known := store.Free(s.f.o.FS, s.f.o.Dir); known && free < spoolFree {
		return fault.E(fault.Full, "federation.Join", "too little of the disk is left for the room's state")
	}
	return nil
}

// write appends one event and notes what it refers to.
func (s *spool) write(e *event.Event) error {
	if s.size+int64(len(e.JSON)) > maxSpool {
		return fault.E(fault.Remote, "federation.Join", "the room's state is larger than %d bytes", int64(maxSpool))
	}
	i := s.index[e.ID]
	auth := make([]int32, len(e.Auth))
	for k, id := range e.Auth {
		var err error
		if auth[k], err = s.at(id); err != nil {
			return err
		}
	}
	p := &s.list[i]
	p.off, p.auth = s.size, auth
	if e.Is("m.room.create", "") && s.create < 0 {
		s.create = i
	}
	if p.state && e.Type == "m.room.member" && room.MembershipOf(e.Content) == room.Join && len(s.residents) < maxResidents {
		s.residents[e.Sender.Server()]++
	}
	if s.file == nil {
		s.mem = append(s.mem, e.JSON...)
		s.size = int64(len(s.mem))
		if len(s.mem) < memSpool {
			return nil
		}
		return s.spill()
	}
	n, err := s.file.Write(e.JSON)
	s.size += int64(n)
	return err
}

// spillFolder lies in the data folder. What is in it when the hub starts is left
// from a power cut.
const spillFolder = "joining"

// spill moves what is in memory to a file.
func (s *spool) spill() (err error) {
	files := s.f.o.FS
	dir := files.PathJoin(s.f.o.Dir, spillFolder)
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.name = files.PathJoin(dir, fmt.Sprintf("%d", s.f.spools.Add(1)))
	if s.file, err = store.CreateFile(files, s.name); err != nil {
		return err
	}
	_, err = s.file.Write(s.mem)
	s.mem = nil
	return err
}

// clearSpills removes what joins left that a power cut ended.
func (f *Federation) clearSpills() error {
	if f.o.FS == nil {
		return nil
	}
	dir := f.o.FS.PathJoin(f.o.Dir, spillFolder)
	names, err := f.o.FS.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		err = errors.Join(err, f.o.FS.Remove(f.o.FS.PathJoin(dir, name)))
	}
	return err
}

// read gives an event back.
func (s *spool) read(i int32) (*event.Event, error) {
	p := &s.list[i]
	json := make([]byte, p.len)
	if s.file == nil {
		copy(json, s.mem[p.off:])
	} else if n, err := s.file.ReadAt(json, p.off); n < len(json) {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return event.ParseAs(s.v, json, p.id)
}

// order lists the events that are here, each behind those that authorise it.
// What is in a cycle, which only forged events can be, is not parted from it.
func (s *spool) order() []int32 {
	out := make([]int32, 0, len(s.list))
	type frame struct {
		i    int32
		next int
	}
	var stack []frame
	push := func(i int32) {
		if p := &s.list[i]; !p.marked && p.len != 0 {
			p.marked = true
			stack = append(stack, frame{i: i})
		}
	}
	visit := func(i int32) {
		for push(i); len(stack) > 0; {
			top := &stack[len(stack)-1]
			if auth := s.list[top.i].auth; top.next < len(auth) {
				top.next++
				push(auth[top.next-1])
				continue
			}
			out = append(out, top.i)
			stack = stack[:len(stack)-1]
		}
	}
	if s.create >= 0 {
		visit(s.create) // before all others: from version 12 on none names it
	}
	for i := range s.list {
		visit(int32(i))
	}
	return out
}

// lacks lists the ids that authorise what is here and did not come.
func (s *spool) lacks() (list []mxid.EventID) {
	for i := range s.list {
		if s.list[i].len == 0 && !s.list[i].state {
			list = append(list, s.list[i].id)
		}
	}
	return list
}
