package federation

import (
	"context"
	"slices"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// MaxTransaction is the longest transaction that is looked at, in bytes: as many
// events as are allowed of full size, and EDUs.
const MaxTransaction = 6 << 20

// transaction is what another server sends.
type transaction struct {
	pdus [][]byte
	edus []edu
	size int // bytes
}

type edu struct {
	typ     string
	content []byte // an object
}

// parseTransaction reads a body that is a checked JSON object. What one entry
// says wrongly is that entry's; only the whole's shape is an error.
func parseTransaction(body []byte) (*transaction, error) {
	const op = "federation.Receive"
	t := &transaction{size: len(body)}
	val, ok := cjson.Lookup(body, "pdus")
	if !ok || cjson.KindOf(val) != cjson.ArrayKind {
		return nil, fault.E(fault.BadJSON, op, "a transaction has a list of pdus")
	}
	n := 0
	if err := cjson.Array(val, func(v []byte) bool {
		t.pdus = append(t.pdus, v)
		n++
		return n <= maxPDUs
	}); err != nil || n > maxPDUs {
		return nil, fault.E(fault.BadJSON, op, "a transaction has at most %d pdus", maxPDUs)
	}
	if val, ok = cjson.Lookup(body, "edus"); !ok || cjson.KindOf(val) == cjson.NullKind {
		return t, nil
	}
	n = 0
	if err := cjson.Array(val, func(v []byte) bool {
		if typ, ok := cjson.LookupString(v, "edu_type"); ok && len(typ) <= event.MaxKey {
			if content, ok := cjson.Lookup(v, "content"); ok && cjson.KindOf(content) == cjson.ObjectKind {
				t.edus = append(t.edus, edu{typ, content})
			}
		}
		n++
		return n <= maxEDUs
	}); err != nil || n > maxEDUs {
		return nil, fault.E(fault.BadJSON, op, "a transaction has at most %d edus", maxEDUs)
	}
	return t, nil
}

// pdu is one event of a transaction and what becomes of it.
type pdu struct {
	raw  []byte
	id   mxid.EventID // empty where it cannot be known
	in   room.Num
	e    *event.Event
	wait bool   // a key is not to be had now, or the policy server has to be asked: it is checked later
	fail string // why it was not taken in; empty where it was
}

// Receive takes in a transaction of another server and gives the answer to it.
// body is a checked JSON object. What lacks something is put aside on the disk
// and fetched for later (filler), so that the answer waits for nobody.
//
// Errors: BadJSON, Limit; what is wrong with one event stands in the answer.
// Spec: server-server, PUT /send/{txnId}.
func (f *Federation) Receive(ctx context.Context, origin mxid.Server, id string, body []byte) ([]byte, error) {
	t, err := parseTransaction(body)
	if err != nil {
		return nil, err
	}
	one, err := f.in.turns.enter(ctx, origin)
	if err != nil {
		return nil, err
	}
	defer f.in.turns.leave(one)
	if one.id == id && one.answer != nil {
		return one.answer, nil
	}
	if err := f.afford(ctx, one, origin, t); err != nil {
		return nil, err
	}
	// Messages to devices come first: among them are the keys of what is said in the
	// same transaction. The rest comes last: whom it is of may join in this one.
	messages, rest := t.split()
	if err := f.takeInEDUs(ctx, origin, messages); err != nil {
		return nil, err
	}
	pdus := make([]pdu, len(t.pdus))
	for i := range pdus {
		pdus[i] = f.place(t.pdus[i])
	}
	if err := f.takeIn(ctx, origin, pdus); err != nil {
		return nil, err
	}
	if err := f.takeInEDUs(ctx, origin, rest); err != nil {
		return nil, err
	}
	one.id, one.answer = id, appendResults(nil, pdus)
	return one.answer, nil
}

// split parts messages to devices from other EDUs.
func (t *transaction) split() (messages, rest []edu) {
	for _, e := range t.edus {
		if e.typ == "m.direct_to_device" {
			messages = append(messages, e)
		} else {
			rest = append(rest, e)
		}
	}
	return messages, rest
}

// afford lets the EDUs of an origin in that has not told too much of late. What
// would be out of date soon is left out otherwise; with what must not be lost the
// origin has to wait a little, or to send it again, with all that came with it.
func (f *Federation) afford(ctx context.Context, one *caller, origin mxid.Server, t *transaction) error {
	wait := f.in.turns.pay(one, t.edus, f.o.Now())
	if wait > 0 && t.size <= slowMost && f.in.turns.linger(ctx, wait) {
		wait = f.in.turns.pay(one, t.edus, f.o.Now())
	}
	if wait == 0 {
		return nil
	}
	if slices.ContainsFunc(t.edus, func(e edu) bool { return e.typ != "m.typing" && e.typ != "m.presence" }) {
		f.o.Log("federation: %s sends more EDUs than are taken", origin)
		return fault.Wait("federation.Receive", wait)
	}
	t.edus = nil
	return nil
}

// takeInEDUs hands on what is no event, in its order.
func (f *Federation) takeInEDUs(ctx context.Context, origin mxid.Server, list []edu) error {
	if len(list) == 0 {
		return nil
	}
	done, err := f.in.turns.work(ctx)
	if err != nil {
		return err
	}
	defer done()
	for _, e := range list {
		if err := f.receiveEDU(ctx, origin, e.typ, e.content); err != nil && ours(err) {
			return err // it is not on the disk: the other side has to send it again
		}
	}
	return nil
}

// appendResults writes what became of each event.
func appendResults(dst []byte, pdus []pdu) []byte {
	dst = append(dst, `{"pdus":{`...)
	first := true
	for i := range pdus {
		p := &pdus[i]
		if p.id == "" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(dst, p.id), `:{`...)
		if p.fail != "" {
			dst = cjson.AppendString(append(dst, `"error":`...), p.fail)
		}
		dst = append(dst, '}')
	}
	return append(dst, `}}`...)
}

// place finds out which room an event is of and reads it by that room's version.
func (f *Federation) place(raw []byte) (p pdu) {
	p.raw = raw
	if cjson.KindOf(raw) != cjson.ObjectKind {
		p.fail = "a pdu is an object"
		return p
	}
	id, _ := cjson.LookupString(raw, "room_id")
	num, err := f.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		p.id, p.fail = strangeID(raw), "this server does not know the room"
		return p
	}
	h, err := f.Rooms.Head(num)
	if err != nil {
		p.fail = "the room cannot be read"
		return p
	}
	p.in = num
	e, _, err := event.Receive(h.Version, raw)
	if err != nil {
		p.id, p.fail = strangeID(raw), text(err)
		return p
	}
	p.e, p.id = e, e.ID
	if e.Room != h.ID {
		p.e, p.fail = nil, "the event is of another room"
	}
	return p
}

// strangeID is the id of an event that was not read: the one it names, or what
// the newest room versions would call it.
func strangeID(raw []byte) mxid.EventID {
	if id, ok := cjson.LookupString(raw, "event_id"); ok {
		if id, err := mxid.ParseEvent(id); err == nil {
			return id
		}
	}
	json, err := cjson.Canonical(nil, raw, false)
	if err != nil || len(json) > event.MaxSize {
		return ""
	}
	id, err := event.ID(event.LookupVersion(event.DefaultVersion), json)
	if err != nil {
		return ""
	}
	return id
}

// text is what another server is told of an error.
func text(err error) string {
	if e, ok := err.(*fault.Error); ok && e.Text != "" {
		return e.Text
	}
	return "the event cannot be taken in"
}

// takeIn hands the events to their rooms, each room's in their order.
func (f *Federation) takeIn(ctx context.Context, origin mxid.Server, pdus []pdu) error {
	done := map[room.Num]bool{}
	for i := range pdus {
		num := pdus[i].in
		if pdus[i].e == nil || done[num] {
			continue
		}
		done[num] = true
		var list []*pdu
		for j := i; j < len(pdus); j++ {
			if pdus[j].in == num && pdus[j].e != nil {
				list = append(list, &pdus[j])
			}
		}
		if err := f.takeInRoom(ctx, origin, num, list); err != nil {
			return err
		}
	}
	return nil
}

// takeInRoom judges one room's events of a transaction and brings what is good
// to the disk in one batch.
func (f *Federation) takeInRoom(ctx context.Context, origin mxid.Server, num room.Num, list []*pdu) error {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return err
	}
	away := len(h.Local) == 0
	if why := f.refuses(h, origin); why != "" && !away {
		for _, p := range list {
			p.fail = why
		}
		return nil
	}
	events := make([]*event.Event, len(list))
	for i, p := range list {
		events[i] = p.e
	}
	for i, err := range f.o.VerifyEvents(ctx, h.Version, events) {
		if fault.Is(err, fault.Remote) {
			list[i].wait = true
		} else if err != nil {
			list[i].fail, list[i].e = "the event's signatures do not hold: "+text(err), nil
		}
	}
	done, err := f.in.turns.work(ctx)
	if err != nil {
		return err
	}
	defer done()
	if away {
		return f.takeOutside(h, origin, list)
	}
	unsigned, err := f.unpoliced(h, events)
	if err != nil {
		return err
	}
	for _, p := range list {
		p.wait = p.wait || unsigned[p.id]
	}
	return f.write(origin, num, list)
}

// takeOutside takes in what concerns our users in a room that the hub is not in.
func (f *Federation) takeOutside(h *room.Head, origin mxid.Server, list []*pdu) error {
	for _, p := range list {
		if p.e == nil {
			continue
		}
		if p.wait { // nothing is put aside for a room that the hub is not in
			p.fail = "the event's signatures cannot be checked now"
			continue
		}
		taken, err := f.outsider(h, origin, p.e)
		if err != nil && ours(err) {
			return err
		}
		if err != nil || !taken {
			p.fail = f.refuses(h, origin)
		}
	}
	return nil
}

// refuses says why nothing of a server is taken into a room; empty where it is.
func (f *Federation) refuses(h *room.Head, origin mxid.Server) string {
	if len(h.Local) == 0 {
		return "nobody of this server is in the room"
	}
	if err := f.Admits(h, origin); err != nil {
		return text(err)
	}
	return ""
}

// write brings verified events into their room; what lacks something is staged.
func (f *Federation) write(origin mxid.Server, num room.Num, list []*pdu) error {
	w, err := f.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	view, err := f.Rooms.ServerView(num, origin)
	if err != nil {
		return err
	}
	in := view.In()
	var wait []lacking
	var came []mxid.EventID
	changed := false
	for _, p := range list {
		if p.e == nil {
			continue
		}
		if p.wait {
			wait = append(wait, lacking{e: p.e, away: !in})
			continue
		}
		outcome, gap, err := w.Accept(p.e, nil)
		switch {
		case err != nil && !ours(err):
			p.fail = text(err)
		case err != nil:
			return err
		case outcome == room.Missing:
			wait = append(wait, lacking{p.e, append(gap.Prev, gap.Auth...)[0], !in})
		case !in && (outcome == room.Rejected || outcome == room.SoftFailed):
			w.Discard() // where it matters after all, who follows it has it
			p.fail = "the rules of the room refuse the event"
		case outcome == room.Rejected:
			p.fail, changed = "the rules of the room refuse the event", true
		case outcome != room.Known:
			changed, came = true, append(came, p.id)
		}
	}
	staged, refused := f.in.pending.admit(num, origin, wait, f.o.Now())
	for _, p := range list {
		if p.fail == "" && slices.Contains(refused, p.id) {
			p.fail = "the event follows what is not here, and too many wait for such"
		}
	}
	if !changed && len(staged) == 0 {
		w.End()
		f.Rooms.Settled(w.Head()) // what is known came a moment ago, perhaps
		return nil
	}
	extra := func(tx *stream.Tx) error {
		for _, s := range staged {
			tx.Set(s.key(), s.appendTo(nil))
		}
		return nil
	}
	var pending stream.Pending
	if changed {
		pending, err = w.Commit(extra)
	} else {
		w.End()
		pending, err = f.Log.Begin(extra)
	}
	if err == nil {
		err = pending.Wait()
	}
	if err != nil {
		f.in.pending.drop(staged)
		return err
	}
	f.in.pending.arrived(num, came)
	if len(staged) > 0 {
		f.in.pending.kick(num)
	}
	if err := f.joinEnds(w.Head()); err != nil {
		f.o.Log("the ends of room %d are not joined: %v", num, err)
	}
	return nil
}

// ours says whether an error is the hub's and not the event's.
func ours(err error) bool {
	switch fault.KindOf(err) {
	case fault.Internal, fault.Corrupt, fault.Full, fault.Busy:
		return true
	}
	return false
}

// inbound is what receiving keeps between requests.
type inbound struct {
	turns   *turns
	pending *pending
	holes   *tried
	joined  joined
	silence silence
}

// startInbound takes up what was put aside before.
func (f *Federation) startInbound() (err error) {
	f.in.turns, f.in.holes = newTurns(), newTried()
	f.in.pending, err = f.openPending()
	return err
}

func millis(t time.Time) int64 { return t.UnixMilli() }
