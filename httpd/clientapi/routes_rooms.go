package clientapi

import "hearth/httpd/wire"

// roomRoutes is everything about rooms, by section of the specification. Guests
// have what its module on guest access lists, and /join beside /rooms/…/join.
func (a *API) roomRoutes() []wire.Route {
	var all []wire.Route
	for _, section := range [...][]wire.Route{
		a.eventRoutes(), a.historyRoutes(), a.relationRoutes(), a.exploreRoutes(), a.delayedRoutes(), a.subscriptionRoutes(), a.membershipRoutes(), a.directoryRoutes(), a.readingRoutes(),
	} {
		all = append(all, section...)
	}
	return all
}

// eventBody bounds the body of an event: 64 KiB of content may come as escapes,
// each six bytes long.
const eventBody = 512 << 10

// Spec: client-server, rooms, creation; sending events; redactions.
func (a *API) eventRoutes() []wire.Route {
	const room = v3 + "/rooms/{roomId}"
	return []wire.Route{
		{Method: "POST", Pattern: v3 + "/createRoom", Handle: a.createRoom, Flags: user, Class: wire.Create},
		{Method: "PUT", Pattern: room + "/send/{eventType}/{txnId}", Handle: a.send, Flags: guest, Class: wire.Send, Body: eventBody},
		{Method: "PUT", Pattern: room + "/redact/{eventId}/{txnId}", Handle: a.redact, Flags: maybe, Class: wire.Send, Body: eventBody},
		{Method: "PUT", Pattern: room + "/state/{eventType}/{stateKey}", Handle: a.setState, Flags: guest | wire.EmptyTail, Class: wire.Send, Body: eventBody},
	}
}

// Spec: client-server, rooms, getting events for a room.
func (a *API) historyRoutes() []wire.Route {
	const room = v3 + "/rooms/{roomId}"
	return []wire.Route{
		{Method: "GET", Pattern: room + "/state", Handle: a.state, Flags: guest, Class: wire.Read},
		{Method: "GET", Pattern: room + "/state/{eventType}/{stateKey}", Handle: a.stateEvent, Flags: guest | wire.EmptyTail},
		{Method: "GET", Pattern: room + "/members", Handle: a.members, Flags: guest, Class: wire.Read},
		{Method: "GET", Pattern: room + "/joined_members", Handle: a.joinedMembers, Flags: user, Class: wire.Read},
		{Method: "GET", Pattern: room + "/messages", Handle: a.messages, Flags: guest, Class: wire.Read},
		{Method: "GET", Pattern: room + "/context/{eventId}", Handle: a.context, Flags: guest, Class: wire.Read},
		{Method: "GET", Pattern: room + "/event/{eventId}", Handle: a.event, Flags: guest},
		{Method: "POST", Pattern: v3 + "/search", Handle: a.search, Flags: user | wire.Heavy, Class: wire.Read},
		{Method: "GET", Pattern: v3 + "/joined_rooms", Handle: a.joinedRooms, Flags: user},
	}
}

// Spec: client-server, room membership.
func (a *API) membershipRoutes() []wire.Route {
	const room = v3 + "/rooms/{roomId}"
	return []wire.Route{
		{Method: "POST", Pattern: v3 + "/join/{roomIdOrAlias}", Handle: a.join, Flags: maybe | wire.GuestOK, Class: wire.Create},
		{Method: "POST", Pattern: room + "/join", Handle: a.joinRoom, Flags: maybe | wire.GuestOK, Class: wire.Create},
		{Method: "POST", Pattern: v3 + "/knock/{roomIdOrAlias}", Handle: a.knock, Flags: late | wire.EmptyBody, Class: wire.Create},
		{Method: "POST", Pattern: room + "/upgrade", Handle: a.upgrade, Flags: user, Class: wire.Create},
		{Method: "POST", Pattern: room + "/invite", Handle: a.invite, Flags: user, Class: wire.Create},
		{Method: "POST", Pattern: room + "/leave", Handle: a.leave, Flags: maybe | wire.GuestOK},
		{Method: "POST", Pattern: room + "/forget", Handle: a.forget, Flags: maybe},
		{Method: "POST", Pattern: room + "/kick", Handle: a.kick, Flags: user, Class: wire.Send},
		{Method: "POST", Pattern: room + "/ban", Handle: a.ban, Flags: user, Class: wire.Send},
		{Method: "POST", Pattern: room + "/unban", Handle: a.unban, Flags: user, Class: wire.Send},
	}
}

// Spec: client-server, room aliases; published room directory.
func (a *API) directoryRoutes() []wire.Route {
	const (
		alias = v3 + "/directory/room/{roomAlias}"
		list  = v3 + "/directory/list/room/{roomId}"
	)
	return []wire.Route{
		{Method: "GET", Pattern: alias, Handle: a.alias, Flags: open},
		{Method: "PUT", Pattern: alias, Handle: a.setAlias, Flags: user, Class: wire.Create},
		{Method: "DELETE", Pattern: alias, Handle: a.deleteAlias, Flags: user},
		{Method: "GET", Pattern: v3 + "/rooms/{roomId}/aliases", Handle: a.roomAliases, Flags: user},
		{Method: "GET", Pattern: list, Handle: a.visibility, Flags: open},
		{Method: "PUT", Pattern: list, Handle: a.setVisibility, Flags: user},
		{Method: "GET", Pattern: v3 + "/publicRooms", Handle: a.publicRooms, Flags: open, Class: wire.Read},
		{Method: "POST", Pattern: v3 + "/publicRooms", Handle: a.searchPublicRooms, Flags: user, Class: wire.Read},
	}
}

// Spec: client-server, typing notifications; receipts; fully read markers; presence.
func (a *API) readingRoutes() []wire.Route {
	const (
		room     = v3 + "/rooms/{roomId}"
		presence = v3 + "/presence/{userId}/status"
	)
	return []wire.Route{
		{Method: "PUT", Pattern: room + "/typing/{userId}", Handle: a.typing, Flags: user, Class: wire.Send},
		{Method: "POST", Pattern: room + "/receipt/{receiptType}/{eventId}", Handle: a.receipt, Flags: maybe, Class: wire.Send},
		{Method: "POST", Pattern: room + "/read_markers", Handle: a.readMarkers, Flags: user, Class: wire.Send},
		{Method: "GET", Pattern: presence, Handle: a.presence, Flags: user},
		{Method: "PUT", Pattern: presence, Handle: a.setPresence, Flags: user, Class: wire.Send},
	}
}
