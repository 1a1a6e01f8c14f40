package federation

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Keys of users elsewhere, for clients here.

const (
	// askedAtOnce is how many servers one request of a client has asked at once.
	askedAtOnce = 16
	// maxLists is how many lists of one server are fetched for one request. Where
	// more are needed the server is asked for all keys at once, which are not kept.
	maxLists = 8
	maxTime  = 30 * time.Second
	// An answer has so many bytes at most, and so many for each user that is asked
	// for; the answers of all servers to one request together no more than one.
	maxKeyAnswer  = 16 << 20
	leastKeys     = 256 << 10
	keysOfOneUser = 64 << 10
)

// keyAnswer bounds the answer about some users.
func keyAnswer(users int) int64 { return min(int64(users)*keysOfOneUser+leastKeys, maxKeyAnswer) }

// KeyAnswers is what a query for keys elsewhere came to.
type KeyAnswers struct {
	Known  map[mxid.UserID]uint32       // users whose keys are in the records now, by number
	Told   map[mxid.Server][]byte       // answers to be told on: only of users that were asked for
	Failed map[mxid.Server]fault.Kind   // servers that did not answer
	asked  map[mxid.Server][]e2ee.Query // of whom Told tells
}

// Of gives what the answer of a user's server says of the user under a name, such
// as device_keys; nil where nothing.
func (k *KeyAnswers) Of(name string, id mxid.UserID) []byte {
	body := k.Told[id.Server()]
	if body == nil || !slices.ContainsFunc(k.asked[id.Server()], func(q e2ee.Query) bool { return q.User == id }) {
		return nil
	}
	val, _ := cjson.LookupPath(body, name, string(id))
	if cjson.KindOf(val) != cjson.ObjectKind {
		return nil
	}
	return val
}

// QueryKeys has the keys of other servers' users at hand. Those who share a room
// with somebody here are fetched once and kept; others are asked for each time.
// Spec: client-server, POST /keys/query.
func (f *Federation) QueryKeys(ctx context.Context, list []e2ee.Query, limit time.Duration) (*KeyAnswers, error) {
	k := &KeyAnswers{Known: map[mxid.UserID]uint32{}, Told: map[mxid.Server][]byte{}, Failed: map[mxid.Server]fault.Kind{},
		asked: map[mxid.Server][]e2ee.Query{}}
	fetch := map[mxid.Server][]uint32{}
	byServer := map[mxid.Server][]e2ee.Query{}
	for _, q := range list {
		server := q.User.Server()
		if server == f.server || server == "" {
			continue
		}
		if !f.Reaches(server) {
			k.Failed[server] = fault.Forbidden
			continue
		}
		user, err := f.Rooms.User(q.User)
		if err != nil {
			return nil, err
		}
		shared := false
		if user != 0 {
			if shared, err = f.shared(user); err != nil {
				return nil, err
			}
		}
		if !shared {
			k.asked[server] = append(k.asked[server], q)
			continue
		}
		have, known, err := f.E2EE.Remote(user)
		if err != nil {
			return nil, err
		}
		k.Known[q.User] = user
		if !known || have.Stale {
			fetch[server] = append(fetch[server], user)
			byServer[server] = append(byServer[server], q)
		}
	}
	for server, users := range fetch {
		if len(users) > maxLists {
			k.asked[server] = append(k.asked[server], byServer[server]...)
			for _, q := range byServer[server] {
				delete(k.Known, q.User)
			}
			delete(fetch, server)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(limit, time.Second), maxTime))
	defer cancel()
	f.gather(ctx, k, fetch, byServer)
	return k, nil
}

// gather asks the servers, some at once.
func (f *Federation) gather(ctx context.Context, k *KeyAnswers, fetch map[mxid.Server][]uint32, by map[mxid.Server][]e2ee.Query) {
	var mu sync.Mutex // guards k and told
	told := 0         // bytes
	var wg sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	run := func(do func()) {
		places <- struct{}{}
		wg.Go(func() {
			do()
			<-places
		})
	}
	for server, users := range fetch {
		for i, user := range users {
			run(func() {
				if err := f.lists.fetch(ctx, user); err != nil {
					mu.Lock()
					k.Failed[server] = fault.KindOf(err)
					delete(k.Known, by[server][i].User)
					mu.Unlock()
				}
			})
		}
	}
	for server, list := range k.asked {
		run(func() {
			body, err := f.do(ctx, &Request{Dest: server, Method: "POST", Path: "/_matrix/federation/v1/user/keys/query",
				Body: queryBody(list), MaxAnswer: keyAnswer(len(list)), Time: maxTime})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				k.Failed[server] = fault.KindOf(err)
			case told+len(body) > maxKeyAnswer:
				k.Failed[server] = fault.Limit
			default:
				told += len(body)
				k.Told[server] = body
			}
		})
	}
	wg.Wait()
}

// queryBody asks for the keys of a list. Spec: server-server, POST /user/keys/query.
func queryBody(list []e2ee.Query) []byte {
	dst := []byte(`{"device_keys":{`)
	for i, q := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, q.User), ':', '[')
		for j, d := range q.Devices {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = cjson.AppendString(dst, d)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}', '}')
}

// ClaimKeys claims one-time keys of devices elsewhere: what is found is in the list
// afterwards. failed are the servers that did not answer.
// Spec: client-server, POST /keys/claim.
func (f *Federation) ClaimKeys(ctx context.Context, list []e2ee.Claim, limit time.Duration) (failed map[mxid.Server]fault.Kind) {
	failed = map[mxid.Server]fault.Kind{}
	by := map[mxid.Server][]*e2ee.Claim{}
	for i := range list {
		switch server := list[i].User.Server(); {
		case server == f.server || server == "":
		case !f.Reaches(server):
			failed[server] = fault.Forbidden
		default:
			by[server] = append(by[server], &list[i])
		}
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(limit, time.Second), maxTime))
	defer cancel()
	var mu sync.Mutex // guards failed
	var wg sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for server, claims := range by {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			body, err := f.do(ctx, &Request{Dest: server, Method: "POST", Path: "/_matrix/federation/v1/user/keys/claim",
				Body: claimBody(claims), MaxAnswer: keyAnswer(len(claims)), Time: maxTime})
			if err != nil {
				mu.Lock()
				failed[server] = fault.KindOf(err)
				mu.Unlock()
				return
			}
			for _, c := range claims {
				claimed(c, body)
			}
		})
	}
	wg.Wait()
	return failed
}

// claimBody claims keys; the list is by user and device. Spec: server-server, POST
// /user/keys/claim.
func claimBody(list []*e2ee.Claim) []byte {
	dst := []byte(`{"one_time_keys":{`)
	for i, c := range list {
		switch {
		case i > 0 && list[i-1].User == c.User:
			dst = append(dst, ',')
		case i > 0:
			dst = append(dst, '}', ',')
			fallthrough
		default:
			dst = append(cjson.AppendString(dst, c.User), ':', '{')
		}
		dst = append(cjson.AppendString(dst, c.Device), ':')
		dst = cjson.AppendString(dst, c.Algorithm)
	}
	return append(dst, '}', '}', '}')
}

// claimed finds the key of one claim in an answer.
func claimed(c *e2ee.Claim, body []byte) {
	keys, _ := cjson.LookupPath(body, "one_time_keys", string(c.User), c.Device)
	if cjson.KindOf(keys) != cjson.ObjectKind {
		return
	}
	_ = cjson.Object(keys, func(id, val []byte) bool { // the answer was checked
		if strings.HasPrefix(string(id), c.Algorithm+":") {
			c.KeyID, c.Key = string(id), val
		}
		return c.Key == nil
	})
}

// AppendUserDevices appends the answer to GET /user/devices/{userId} for a user of
// this hub. NotFound where there is none such. Spec: server-server.
func (f *Federation) AppendUserDevices(dst []byte, id mxid.UserID) ([]byte, error) {
	user, err := f.Accounts.Find(id)
	if err != nil {
		return dst, err
	}
	if user == 0 || id.Server() != f.server {
		return dst, fault.E(fault.NotFound, "federation.devices", "there is no such user here")
	}
	// The position comes first: a change that comes between is told once more.
	at, err := f.E2EE.LastDevice(user)
	if err != nil {
		return dst, err
	}
	devices, err := f.Accounts.Devices(user)
	if err != nil {
		return dst, err
	}
	list := make([]e2ee.Device, len(devices))
	for i := range devices {
		list[i] = e2ee.Device{ID: devices[i].ID, Num: devices[i].Num, Name: devices[i].Name}
	}
	all, err := f.E2EE.AppendDeviceKeys(nil, user, id, list)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `{"devices":[`...)
	first := true
	_ = cjson.Object(all, func(device, keys []byte) bool { // we wrote it
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '{')
		if name, ok := cjson.LookupPath(keys, "unsigned", "device_display_name"); ok {
			dst = append(append(append(dst, `"device_display_name":`...), name...), ',')
		}
		dst = cjson.AppendString(append(dst, `"device_id":`...), string(device))
		dst = append(append(append(dst, `,"keys":`...), keys...), '}')
		return true
	})
	dst = append(dst, ']')
	for _, u := range [...]e2ee.Usage{e2ee.Master, e2ee.SelfSigning} {
		mark := len(dst)
		var ok bool
		dst, ok, err = f.E2EE.AppendCrossKey(append(append(append(dst, `,"`...), u.String()...), `_key":`...), user, id, 0, u)
		if err != nil {
			return dst, err
		}
		if !ok {
			dst = dst[:mark]
		}
	}
	dst = strconv.AppendUint(append(dst, `,"stream_id":`...), f.streamID(at), 10)
	return append(cjson.AppendString(append(dst, `,"user_id":`...), id), '}'), nil
}
