package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
)

// Resolve gives the room id behind an alias.
func (c *Client) Resolve(ctx context.Context, alias string) (string, error) {
	var answer struct {
		Room string `json:"room_id"`
	}
	err := c.persist(ctx, call{method: http.MethodGet, path: "/directory/room/" + url.PathEscape(alias)}, &answer)
	return answer.Room, err
}

// Join enters a room by id or alias and gives its id. Who is in it already may call it too.
func (c *Client) Join(ctx context.Context, room string) (string, error) {
	var answer struct {
		Room string `json:"room_id"`
	}
	err := c.persist(ctx, call{
		method: http.MethodPost, path: "/join/" + url.PathEscape(room), body: struct{}{}, through: true,
	}, &answer)
	return answer.Room, err
}

// CreateRoom makes a room that everybody on the server may join, with an alias
// of this local part, and gives its id.
func (c *Client) CreateRoom(ctx context.Context, alias string) (string, error) {
	var answer struct {
		Room string `json:"room_id"`
	}
	err := c.persist(ctx, call{
		method: http.MethodPost, path: "/createRoom", through: true,
		body: map[string]string{"preset": "public_chat", "room_alias_name": alias, "name": alias},
	}, &answer)
	return answer.Room, err
}

// Member reports whether the user is in the room.
func (c *Client) Member(ctx context.Context, room string) (bool, error) {
	var answer struct {
		Joined []string `json:"joined_rooms"`
	}
	err := c.persist(ctx, call{method: http.MethodGet, path: "/joined_rooms"}, &answer)
	return slices.Contains(answer.Joined, room), err
}

// Outgoing is an event to send.
type Outgoing struct {
	Room string
	Type string
	// State makes it a state event with this key. It has no transaction id: sending it twice leaves the same state.
	State *string
	// Transaction is the id under which the server knows a second try; see Client.Transaction.
	Transaction string
	Content     json.RawMessage
}

// Send sends one event, as often as it takes, and gives its id.
// Spec: client-server API, transaction identifiers: a repeated id gives the first answer again.
func (c *Client) Send(ctx context.Context, o Outgoing) (string, error) {
	path := "/rooms/" + url.PathEscape(o.Room)
	if o.State != nil {
		path += "/state/" + url.PathEscape(o.Type) + "/" + url.PathEscape(*o.State)
	} else {
		path += "/send/" + url.PathEscape(o.Type) + "/" + url.PathEscape(o.Transaction)
	}
	var answer struct {
		Event string `json:"event_id"`
	}
	err := c.persist(ctx, call{method: http.MethodPut, path: path, body: o.Content, through: true}, &answer)
	return answer.Event, err
}
