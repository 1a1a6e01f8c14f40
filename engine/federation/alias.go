package federation

import (
	"context"
	"net/url"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Alone says whether the hub does not federate at all.
func (f *Federation) Alone() bool { return f.o.Peer == nil }

// FindAlias asks the server of an alias for its room, and for servers in it.
// Errors: NotFound, Remote. Spec: server-server, GET /query/directory.
func (f *Federation) FindAlias(ctx context.Context, alias mxid.Alias) (id mxid.RoomID, servers []mxid.Server, err error) {
	body, err := f.do(ctx, &Request{Dest: alias.Server(), Method: "GET", Path: apiV1 + "query/directory?room_alias=" + url.QueryEscape(string(alias))})
	if err != nil {
		return "", nil, asTold(err)
	}
	text, _ := cjson.LookupString(body, "room_id")
	if id, err = mxid.ParseRoom(text); err != nil {
		return "", nil, fault.E(fault.Remote, "federation.FindAlias", "%s gave no room for the alias: %w", alias.Server(), err)
	}
	list, _ := cjson.Lookup(body, "servers")
	_ = cjson.Array(list, func(val []byte) bool { // what is no list names none
		name, _ := cjson.String(val)
		if s, err := mxid.ParseServer(name); err == nil {
			servers = append(servers, s)
		}
		return len(servers) < maxAliasServers
	})
	return id, append(servers, alias.Server()), nil
}

const maxAliasServers = 50
