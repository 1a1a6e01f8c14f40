package federation

import (
	"context"
	"net/url"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Questions that other servers answer for users here.

// profiles are answers that were given a short while ago.
type profiles struct {
	mu sync.Mutex
	m  map[mxid.UserID]profile
}

type profile struct {
	body []byte // nil: there is no such user
	till time.Time
}

const (
	profileKept = time.Minute
	maxProfiles = 512
	keptProfile = 4 << 10 // bytes of the longest that is kept
	profileTime = 10 * time.Second
	maxProfile  = 64 << 10
	maxListing  = 4 << 20
)

// Profile asks a user's server for the user's profile: a JSON object. NotFound where
// there is no such user. Spec: server-server, GET /query/profile.
func (f *Federation) Profile(ctx context.Context, id mxid.UserID) ([]byte, error) {
	now := time.Now()
	f.profiles.mu.Lock()
	p, known := f.profiles.m[id]
	f.profiles.mu.Unlock()
	if !known || now.After(p.till) {
		body, err := f.do(ctx, &Request{Dest: id.Server(), Method: "GET", MaxAnswer: maxProfile, Time: profileTime,
			Path: "/_matrix/federation/v1/query/profile?user_id=" + url.QueryEscape(string(id))})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		p = profile{body, now.Add(profileKept)}
		f.profiles.mu.Lock()
		if f.profiles.m == nil || len(f.profiles.m) >= maxProfiles {
			f.profiles.m = map[mxid.UserID]profile{}
		}
		if len(p.body) <= keptProfile {
			f.profiles.m[id] = p
		}
		f.profiles.mu.Unlock()
	}
	if p.body == nil {
		return nil, fault.E(fault.NotFound, "federation.Profile", "the user's server does not know the user")
	}
	return p.body, nil
}

// PublicRooms asks a server for its public rooms: by a search, a JSON object, or
// where that is nil by a query as it stands in an address. The answer is an object.
// Spec: server-server, GET and POST /publicRooms.
func (f *Federation) PublicRooms(ctx context.Context, server mxid.Server, query string, search []byte) ([]byte, error) {
	r := Request{Dest: server, Method: "GET", Path: "/_matrix/federation/v1/publicRooms", MaxAnswer: maxListing}
	if search != nil {
		r.Method, r.Body = "POST", search
	} else if query != "" {
		r.Path += "?" + query
	}
	return f.do(ctx, &r)
}

// Hierarchy asks servers, one after the other, what a room is and what is in it, if
// it is a space. Spec: server-server, GET /hierarchy/{roomId}.
func (f *Federation) Hierarchy(ctx context.Context, id mxid.RoomID, via []mxid.Server, suggested bool) ([]byte, error) {
	err := fault.E(fault.NotFound, "federation.Hierarchy", "room not found")
	path := "/_matrix/federation/v1/hierarchy/" + url.PathEscape(string(id)) + "?suggested_only=false"
	if suggested {
		path = path[:len(path)-5] + "true"
	}
	tries := 0
	for _, server := range via {
		if !f.Reaches(server) {
			continue
		}
		if tries++; tries > maxHierarchyTries {
			break
		}
		body, aerr := f.do(ctx, &Request{Dest: server, Method: "GET", Path: path, MaxAnswer: maxListing, Time: profileTime})
		if aerr != nil {
			err = aerr
			continue
		}
		if told, _ := cjson.LookupPath(body, "room", "room_id"); !cjson.Is(told, string(id)) {
			continue
		}
		return body, nil
	}
	return nil, err
}

// maxHierarchyTries is how many servers are asked about one room.
const maxHierarchyTries = 3
