package keyring

import (
	"context"
	"slices"
	"sync"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Rooms outlive servers, and who joins one late has to judge what servers said
// that are gone. Those who were in the room then have their keys. One of them alone
// is not believed: whoever makes up a key can sign an object with it as well, so
// the server through which a room is joined could have anybody have said anything.
// Two that say the same are, as far as that does little harm if they lie:
//
//   - of a server that does not answer itself, and of which no key was ever known
//     here;
//   - for events of the room that they are in, which are older than any key is
//     believed without a new word of its server;
//   - for that moment: nothing of it is kept as a key, serves for a request, or is
//     passed on to who asks this hub.

const (
	// enough is how many servers have to say the same.
	enough = 2
	// maxWitnesses is how many of a room's servers are asked.
	maxWitnesses = 5
	// hearing is how long it is remembered what they said: a room's state comes in
	// many pieces.
	hearing  = 10 * 60 * 1000
	maxHeard = 1024
)

// hearsay is what the servers of a room say of another one's keys.
type hearsay struct {
	at  int64
	set keySet
}

type subject struct {
	room   mxid.RoomID
	server mxid.Server
}

// VerifyPast is VerifyEvents for what a room's servers tell of its past; witnesses
// are some of them, those that are asked first come first.
func (k *Keys) VerifyPast(ctx context.Context, v *event.Version, events []*event.Event, witnesses []mxid.Server) []error {
	errs := k.VerifyEvents(ctx, v, events)
	if !k.o.Witnesses || k.o.Ask == nil {
		return errs
	}
	of := map[mxid.Server]*need{}
	var which []int
	for i, e := range events {
		if !fault.Is(errs[i], fault.Remote) || e.Time >= k.now()-believed {
			continue
		}
		which = append(which, i)
		for _, server := range e.Signers() {
			if of[server] == nil {
				of[server] = &need{server: server}
			}
			of[server].add(e, v)
		}
	}
	if len(which) == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.LongTime)
	defer cancel()
	k.hear(ctx, events[which[0]].Room, of, witnesses)
	for part := range slices.Chunk(which, slice) {
		for _, i := range part {
			errs[i] = nil
		}
		k.verifySlice(of, v, events, part, errs)
	}
	return errs
}

// hear finds keys by what the room's servers say, where nobody else tells any.
func (k *Keys) hear(ctx context.Context, in mxid.RoomID, of map[mxid.Server]*need, witnesses []mxid.Server) {
	var strangers []*need
	for server, n := range of {
		if server == k.o.Server {
			n.set = k.own.Load().ownSet()
			continue
		}
		if n.set, n.err = k.known(server); n.err != nil || len(n.missing(k.now())) == 0 {
			continue
		}
		n.err = fault.E(fault.Remote, "keyring", "it does not answer, and too few others know its keys")
		if len(n.set) > 0 || k.remembered(in, n) || !k.silent(server) {
			continue
		}
		strangers = append(strangers, n)
	}
	witnesses = slices.DeleteFunc(slices.Clone(witnesses), func(s mxid.Server) bool { return s == k.o.Server || of[s] != nil && len(of[s].set) == 0 })
	slices.Sort(witnesses[min(1, len(witnesses)):]) // so that doubles meet
	witnesses = slices.Compact(witnesses)
	witnesses = witnesses[:min(len(witnesses), maxWitnesses)]
	if len(witnesses) < enough {
		return
	}
	for part := range slices.Chunk(strangers, notaryServers) {
		k.question(ctx, in, part, witnesses)
	}
}

// silent says whether a server was asked for its keys and did not tell them. One that
// there was no time to ask may be well: who tells of a room can fill it with servers
// that take long.
func (k *Keys) silent(server mxid.Server) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tries[server]
	return t != nil && t.failures > 0
}

// remembered takes what was said a moment ago.
func (k *Keys) remembered(in mxid.RoomID, n *need) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, ok := k.heard[subject{in, n.server}]
	if !ok || k.now()-h.at > hearing {
		return false
	}
	n.set = h.set
	return true
}

// question asks all witnesses about some servers, and takes what enough of them
// agree on.
func (k *Keys) question(ctx context.Context, in mxid.RoomID, needs []*need, witnesses []mxid.Server) {
	said := make([]map[mxid.Server]*keySet, len(witnesses))
	var asked sync.WaitGroup
	for i, witness := range witnesses {
		asked.Go(func() {
			got, err := k.consult(ctx, witness, needs)
			if err != nil {
				k.o.Log("%s was asked for the keys of others: %v", witness, err)
				return
			}
			said[i] = map[mxid.Server]*keySet{}
			for _, a := range got {
				set := said[i][a.server]
				if set == nil {
					set = &keySet{}
					said[i][a.server] = set
				}
				set.merge(a)
			}
		})
	}
	asked.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range needs {
		var sets []keySet
		for _, of := range said {
			if set := of[n.server]; set != nil {
				sets = append(sets, *set)
			}
		}
		n.set = agreed(sets)
		for old := range k.heard {
			if len(k.heard) < maxHeard {
				break
			}
			delete(k.heard, old)
		}
		k.heard[subject{in, n.server}] = hearsay{k.now(), n.set}
		if len(n.set) > 0 {
			k.o.Log("%s does not answer; for what it said in %s long ago its keys are taken from others there", n.server, in)
		}
	}
}

// agreed are the keys that enough of the sets have. An id for which two sets have
// different keys is none; of validities the shortest counts.
func agreed(sets []keySet) (list keySet) {
	for _, set := range sets {
		for _, key := range set {
			if len(list.of(key.id)) == 0 && key.agreed(sets) {
				list = append(list, key)
			}
		}
	}
	return list
}

// agreed says whether enough sets have the key, and none another under its id.
func (k *key) agreed(sets []keySet) bool {
	votes := 0
	for _, set := range sets {
		for _, same := range set.of(k.id) {
			if same.pub != k.pub {
				return false
			}
			votes++
			k.shorten(same)
		}
	}
	return votes >= enough
}

// shorten takes what another says of the same key, where that makes it valid for
// less.
func (k *key) shorten(other *key) {
	if other.expired != 0 && (k.expired == 0 || other.expired < k.expired) {
		k.expired = other.expired
	}
	k.until = min(k.until, other.until)
}
