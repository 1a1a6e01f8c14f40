package room

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// replica makes a copy of a room on another hub, as a join over federation
// does: state and auth chain as outliers, then one event with the state before
// it given.
func (h *hub) replica(to *hub, num Num) Num {
	h.t.Helper()
	head, err := h.Head(num)
	if err != nil {
		h.t.Fatal(err)
	}
	id := head.ID
	w := to.New(head.Version, id)
	defer w.End()
	last, err := h.Event(head.ext[0].num)
	if err != nil {
		h.t.Fatal(err)
	}
	before, err := h.StateBefore(last)
	if err != nil {
		h.t.Fatal(err)
	}
	var given []mxid.EventID
	for _, p := range before {
		e, err := h.Event(EventNum(p.Event))
		if err != nil {
			h.t.Fatal(err)
		}
		given = append(given, e.ID)
	}
	for _, e := range h.events(num) {
		if e.ID == last.ID {
			break
		}
		if !e.IsState {
			continue
		}
		if out, gap, err := w.Keep(h.wire(e)); err != nil || out != Aside {
			h.t.Fatalf("%s: %v %v %v", e.Type, out, gap, err)
		}
	}
	if out, gap, err := w.Accept(h.wire(last), given); err != nil || out != Accepted {
		h.t.Fatalf("%s: %v %v %v", last.Type, out, gap, err)
	}
	p, err := w.Commit(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		h.t.Fatal(err)
	}
	return w.Head().Room
}

// wire is the event as it arrives at another hub.
func (h *hub) wire(e *Event) *event.Event {
	h.t.Helper()
	got, redacted, err := event.Receive(e.Version, e.JSON)
	if err != nil || redacted && !e.Redacted() || got.ID != e.ID {
		h.t.Fatalf("%s does not survive the way: %v", e.ID, err)
	}
	return got
}

// events lists a room's timeline.
func (h *hub) events(room Num) (list []*Event) {
	h.t.Helper()
	if err := h.Timeline(room, Key{}, After(h.log.Tip()), false, func(_ Key, num EventNum) (bool, error) {
		e, err := h.Event(num)
		list = append(list, e)
		return true, err
	}); err != nil {
		h.t.Fatal(err)
	}
	return list
}

// give hands an event to another hub and commits what it makes of it.
func (h *hub) give(to *hub, room Num, e *event.Event) (Outcome, Gap) {
	h.t.Helper()
	w, err := to.Write(room)
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.End()
	out, gap, err := w.Accept(e, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if out == Known || out == Missing {
		return out, gap
	}
	p, err := w.Commit(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		h.t.Fatal(err)
	}
	return out, gap
}

// catchUp gives one hub everything of the other's timeline that it lacks.
func (h *hub) catchUp(to *hub, from, room Num) {
	h.t.Helper()
	for _, e := range h.events(from) {
		if out, gap := h.give(to, room, h.wire(e)); out == Missing {
			h.t.Fatalf("%s lacks %v", e.Type, gap)
		}
	}
}

// present is a room's state and members by names.
func (h *hub) present(room Num) string {
	h.t.Helper()
	head, err := h.Head(room)
	if err != nil {
		h.t.Fatal(err)
	}
	var lines []string
	if err := h.Each(head.State, func(e *Event) (bool, error) {
		lines = append(lines, fmt.Sprintf("%s %q %s", e.Type, e.StateKey, e.ID))
		return true, nil
	}); err != nil {
		h.t.Fatal(err)
	}
	joined := 0
	if err := h.Members(room, func(m Member) bool {
		id, err := h.UserID(m.User)
		if err != nil {
			h.t.Fatal(err)
		}
		switch m.Membership {
		case None: // had a standing that the resolution took away
			return true
		case Join:
			joined++
		}
		lines = append(lines, fmt.Sprintf("%s %s", id, m.Membership))
		return true
	}); err != nil {
		h.t.Fatal(err)
	}
	if joined != head.Joined {
		h.t.Errorf("the head counts %d joined members, the index %d", head.Joined, joined)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func two(t *testing.T, version string) (a, b *hub, onA, onB Num) {
	t.Helper()
	a, b = openHub(t, vfs.NewMem()), openHub(t, vfs.NewMem())
	b.opts.Signer.Server = "other"
	onA = a.create(version, "@a:hub", "public")
	a.member(onA, "@b:hub", "@b:hub", "join")
	a.member(onA, "@c:hub", "@c:hub", "join")
	return a, b, onA, a.replica(b, onA)
}

// Two hubs that wrote apart from each other come to the same state once each
// has what the other wrote, in every room version, whatever they wrote.
func TestForksComeTogether(t *testing.T) {
	for _, version := range event.Versions() {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 7))
		a, b, onA, onB := two(t, version)
		if a.present(onA) != b.present(onB) {
			t.Fatalf("version %s: the copy differs:\n%s\n\n%s", version, a.present(onA), b.present(onB))
		}
		for range 4 {
			for _, side := range []struct {
				h    *hub
				room Num
			}{{a, onA}, {b, onB}} {
				for range 1 + rnd.IntN(4) {
					side.h.act(rnd, side.room)
				}
			}
			a.catchUp(b, onA, onB)
			b.catchUp(a, onB, onA)
			// An event that one side soft-failed is part of its state once another
			// builds on it: each side says something on all that it has.
			b.speak(onB)
			b.catchUp(a, onB, onA)
			a.speak(onA)
			a.catchUp(b, onA, onB)
			if got, want := b.present(onB), a.present(onA); got != want {
				t.Fatalf("version %s, seed %d: one hub has\n%s\n\nthe other\n%s", version, seed, want, got)
			}
		}
		a.close()
		b.close()
	}
}

// speak sends a message as somebody who may.
func (h *hub) speak(room Num) {
	h.t.Helper()
	for _, user := range []mxid.UserID{"@a:hub", "@b:hub", "@c:hub", "@d:hub"} {
		d := text(user, "so it is")
		if _, err := h.Send(room, &d); err == nil {
			return
		}
	}
	h.t.Fatal("nobody is left in the room")
}

// act does something that is allowed or not; what the rules refuse is no error.
func (h *hub) act(rnd *rand.Rand, room Num) {
	h.t.Helper()
	users := []mxid.UserID{"@b:hub", "@c:hub", "@d:hub", "@a:hub"}
	user, other := users[rnd.IntN(len(users))], users[rnd.IntN(len(users))]
	d := Draft{Sender: user, StateKey: sk("")}
	switch rnd.IntN(6) {
	case 0:
		d = text(user, fmt.Sprint(rnd.Uint32()))
	case 1:
		d.Type, d.Content = "m.room.name", fmt.Appendf(nil, `{"name":"%d"}`, rnd.Uint32())
	case 2:
		if other == "@a:hub" {
			return // the creator stays, so that somebody does
		}
		d.Type, d.StateKey = "m.room.member", sk(string(other))
		d.Content = fmt.Appendf(nil, `{"membership":"%s","reason":"%d"}`, []string{"join", "leave", "ban", "invite"}[rnd.IntN(4)], rnd.Uint32())
	case 3:
		d.Type, d.Content = "m.room.join_rules", fmt.Appendf(nil, `{"join_rule":"%s","n":%d}`, []string{"public", "invite"}[rnd.IntN(2)], rnd.Uint32())
	case 4:
		d.Type, d.Content = "m.room.topic", fmt.Appendf(nil, `{"topic":"%d"}`, rnd.Uint32())
	case 5:
		head, err := h.Head(room)
		if err != nil {
			h.t.Fatal(err)
		}
		creator := `"@a:hub":100,`
		if head.Version.Creators {
			creator = ""
		}
		d.Type = "m.room.power_levels"
		d.Content = fmt.Appendf(nil, `{"users":{%s"@b:hub":%d},"events":{"m.room.name":%d}}`, creator, []int{0, 50, 99}[rnd.IntN(3)], 50*rnd.IntN(2))
	}
	_, _ = h.Send(room, &d) // refused or not: both are part of a life
}

func TestGapsAreNamedAndFilled(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	a.send(onA, text("@a:hub", "one"))
	a.send(onA, text("@a:hub", "two"))
	list := a.events(onA)
	one, last := list[len(list)-2], list[len(list)-1]
	out, gap := a.give(b, onB, a.wire(last))
	if out != Missing || len(gap.Prev) != 1 || gap.Prev[0] != one.ID || len(gap.Auth) != 0 {
		t.Fatal(out, gap)
	}
	if out, _ := a.give(b, onB, a.wire(one)); out != Accepted {
		t.Fatal(out)
	}
	if out, _ := a.give(b, onB, a.wire(last)); out != Accepted {
		t.Fatal(out)
	}
	if out, _ := a.give(b, onB, a.wire(last)); out != Known {
		t.Fatal(out)
	}
	head, err := b.Head(onB)
	if err != nil || len(head.ext) != 1 || head.ext[0].id != last.ID {
		t.Fatal(head.ext, err)
	}
}

func TestRejectedAndSoftFailed(t *testing.T) {
	a, b, onA, onB := two(t, "12")
	defer a.close()
	defer b.close()
	// @b is banned here, and speaks there before it is known.
	b.member(onB, "@a:hub", "@b:hub", "ban")
	a.send(onA, text("@a:hub", "in time"))
	early := a.events(onA)
	if out, _ := a.give(b, onB, a.wire(early[len(early)-1])); out != Accepted {
		t.Fatal(out)
	}
	a.send(onA, text("@b:hub", "too late"))
	late := a.events(onA)
	said := late[len(late)-1]
	if out, _ := a.give(b, onB, a.wire(said)); out != SoftFailed {
		t.Fatal(out)
	}
	for _, body := range b.timeline(onB, false) {
		if body == "too late" {
			t.Fatal("a soft-failed event is in the timeline")
		}
	}
	kept, err := b.Lookup(said.ID)
	if err != nil || kept.At.Pos != 0 || kept.After == 0 {
		t.Fatalf("%+v %v", kept, err)
	}
	// What follows it and may be is no worse for it, and what it hid is followed now.
	a.send(onA, text("@a:hub", "after it"))
	late = a.events(onA)
	if out, _ := a.give(b, onB, a.wire(late[len(late)-1])); out != Accepted {
		t.Fatal(out)
	}
	if head, err := b.Head(onB); err != nil || len(head.ext) != 2 {
		t.Fatalf("%v %v: want the ban and the new event", head.ext, err)
	}
	// What its own auth events refuse is rejected, and so is what builds on it.
	forged := event.Draft{
		Room: said.Room, Type: "m.room.topic", StateKey: sk(""), Sender: "@b:hub", Time: said.Time, Depth: said.Depth + 1,
		Prev: []mxid.EventID{said.ID}, Auth: said.Auth, Content: []byte(`{"topic":"mine"}`),
	}
	e, err := event.Build(said.Version, &forged, &a.opts.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := a.give(b, onB, e); out != Rejected {
		t.Fatal(out)
	}
	if bad, err := b.Lookup(e.ID); err != nil || bad.Flags&flagRejected == 0 || bad.At.Pos != 0 {
		t.Fatalf("%+v %v", bad, err)
	}
}

// A redaction that comes before its target empties the target when it comes.
func TestRedactionBeforeItsTarget(t *testing.T) {
	a, b, onA, onB := two(t, "11")
	defer a.close()
	defer b.close()
	target := a.send(onA, text("@b:hub", "secret"))
	a.send(onA, Draft{Type: "m.room.redaction", Sender: "@a:hub", Redacts: target, Content: []byte(`{}`)})
	list := a.events(onA)
	red := list[len(list)-1]
	head, err := b.Head(onB)
	if err != nil {
		t.Fatal(err)
	}
	var given []mxid.EventID
	if err := b.Each(head.State, func(e *Event) (bool, error) { given = append(given, e.ID); return true, nil }); err != nil {
		t.Fatal(err)
	}
	w, err := b.Write(onB)
	if err != nil {
		t.Fatal(err)
	}
	if out, gap, err := w.Accept(a.wire(red), given); err != nil || out != Accepted {
		t.Fatal(out, gap, err)
	}
	p, err := w.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	original, err := event.Parse(red.Version, list[len(list)-2].JSON)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := a.give(b, onB, original); out != Accepted {
		t.Fatal(out)
	}
	e, err := b.Lookup(target)
	if err != nil || !e.Redacted() || string(e.Content) != "{}" {
		t.Fatalf("%+v %v", e, err)
	}
	after, err := b.Head(onB)
	if err != nil || len(after.ext) != 1 || after.ext[0].id != red.ID {
		t.Fatalf("%v %v: what came late is no extremity, what follows it is", after.ext, err)
	}
}

// What one fork has set and the other has not is part of both together.
func TestForkKeepsWhatOneSideSet(t *testing.T) {
	for _, version := range event.Versions() {
		a, b, onA, onB := two(t, version)
		a.send(onA, Draft{Type: "m.room.topic", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{"topic":"x"}`)})
		b.send(onB, text("@b:hub", "meanwhile"))
		b.catchUp(a, onB, onA)
		a.catchUp(b, onA, onB)
		for _, side := range []struct {
			h    *hub
			room Num
		}{{a, onA}, {b, onB}} {
			head, err := side.h.Head(side.room)
			if err != nil {
				t.Fatal(err)
			}
			if topic, err := side.h.StateEvent(head.State, "m.room.topic", ""); err != nil || topic == nil || len(head.ext) != 2 {
				t.Errorf("version %s: the topic is %v, %v with %d ends", version, topic, err, len(head.ext))
			}
		}
		a.close()
		b.close()
	}
}
