package keyring

import (
	"context"
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Query asks for the keys of one server.
type Query struct {
	Server mxid.Server
	KeyIDs []string // empty: all
	At     int64    // they should be valid up to then, in milliseconds
}

// Bounds of what is answered at once as a notary.
const (
	MaxQueries  = 512     // servers that may be asked about
	maxFetches  = 16      // of those, how many are asked anew
	maxAnswered = 3 << 20 // bytes
)

// Answer gives what servers have published of their keys, each object with a
// signature of ours. It answers from the store; where that is too old or lacks
// a key, the server is asked, if that may be. Servers of which nothing is known
// are left out, and what is known stays even when the server is gone. Spec:
// server-server, querying keys through another server.
func (k *Keys) Answer(ctx context.Context, queries []Query) ([][]byte, error) {
	const op = "keyring.Answer"
	own := k.own.Load()
	if len(own.Current) == 0 {
		return nil, fault.E(fault.Internal, op, "this hub has no signing key")
	}
	if len(queries) > MaxQueries {
		return nil, fault.E(fault.TooLarge, op, "at most %d servers at once", MaxQueries)
	}
	if err := k.freshen(ctx, queries); err != nil {
		return nil, err
	}
	var list [][]byte
	size := 0
	for i := range queries {
		found, err := k.answer(own, &queries[i])
		if err != nil {
			return nil, err
		}
		for _, obj := range found {
			if size += len(obj); size > maxAnswered {
				return list, nil
			}
			list = append(list, obj)
		}
	}
	return list, nil
}

// freshen asks the servers whose answers do not do any more.
func (k *Keys) freshen(ctx context.Context, queries []Query) error {
	ctx, cancel := context.WithTimeout(ctx, k.o.Time)
	defer cancel()
	var flights []*flight
	for i := range queries {
		q := &queries[i]
		if q.Server == k.o.Server || len(flights) == maxFetches {
			continue
		}
		stale, err := k.stale(q)
		if err != nil {
			return err
		}
		if !stale {
			continue
		}
		if f, err := k.start(ctx, q.Server, purpose{k.notary, lastPause}); err == nil {
			flights = append(flights, f)
		}
	}
	for _, f := range flights {
		_, _ = f.wait(ctx) // what is not had is left out of the answer
	}
	return nil
}

// stale says whether a server has to be asked to answer a query. An answer
// serves for half of the time for which it is valid.
func (k *Keys) stale(q *Query) (bool, error) {
	list, err := k.answers(q.Server)
	if err != nil || len(list) == 0 {
		return true, err
	}
	a, err := readAnswer(list[0].raw, q.Server, list[0].at)
	if err != nil || a.until < q.At || k.now() > a.at+(a.until-a.at)/2 {
		return true, nil
	}
	for _, id := range q.KeyIDs {
		if a.find(id) != nil {
			continue
		}
		if found, err := k.known(q.Server); err != nil || len(found.of(id)) == 0 {
			return true, err
		}
	}
	return false, nil
}

// answer gives the newest object of a server, and older ones where only they
// tell of a key that is asked for.
func (k *Keys) answer(own *Own, q *Query) ([][]byte, error) {
	if q.Server == k.o.Server {
		obj, err := k.Published()
		return [][]byte{obj}, err
	}
	stored, err := k.answers(q.Server)
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	var list [][]byte
	for i, s := range stored {
		a, err := readAnswer(s.raw, q.Server, s.at)
		if err != nil {
			continue
		}
		news := slices.ContainsFunc(a.keys, func(k key) bool {
			return !told[k.id] && (len(q.KeyIDs) == 0 || slices.Contains(q.KeyIDs, k.id))
		})
		if i > 0 && !news {
			continue
		}
		for _, k := range a.keys {
			told[k.id] = true
		}
		obj, err := event.SignJSON(nil, s.raw, &own.Current[0])
		if err != nil {
			continue // no object without a canonical form gets in
		}
		list = append(list, obj)
	}
	return list, nil
}

// ParseQueries reads the body of a question to a notary. Errors: BadJSON,
// Missing, and TooLarge for more than MaxQueries servers. Names that are not
// those of servers are skipped: nothing is known of them. Spec: server-server,
// POST /_matrix/key/v2/query.
func ParseQueries(body []byte) ([]Query, error) {
	const op = "keyring.ParseQueries"
	servers, ok := cjson.Lookup(body, "server_keys")
	if !ok {
		return nil, fault.E(fault.Missing, op, "server_keys is needed")
	}
	if cjson.KindOf(servers) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, op, "server_keys is no object")
	}
	var list []Query
	count := 0
	err := cjson.Object(servers, func(name, keys []byte) bool {
		count++
		q := Query{Server: mxid.Server(name)}
		if _, err := mxid.ParseServer(string(name)); err == nil {
			q.criteria(keys)
			list = append(list, q)
		}
		return count <= MaxQueries
	})
	switch {
	case err != nil:
		return nil, fault.E(fault.BadJSON, op, "server_keys cannot be read: %w", err)
	case count > MaxQueries:
		return nil, fault.E(fault.TooLarge, op, "at most %d servers at once", MaxQueries)
	}
	return list, nil
}

// criteria reads what is wanted of one server.
func (q *Query) criteria(keys []byte) {
	_ = cjson.Object(keys, func(id, of []byte) bool {
		q.KeyIDs = append(q.KeyIDs, string(id))
		val, _ := cjson.Lookup(of, "minimum_valid_until_ts")
		if at, ok := cjson.Int(val); ok {
			q.At = max(q.At, at)
		}
		return len(q.KeyIDs) < maxWants
	})
}

// AppendAnswers appends the answer of a notary.
func AppendAnswers(dst []byte, objects [][]byte) []byte {
	dst = append(dst, `{"server_keys":[`...)
	for i, obj := range objects {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, obj...)
	}
	return append(dst, `]}`...)
}
