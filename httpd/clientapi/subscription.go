package clientapi

import (
	"strconv"

	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/sync"
	"hearth/httpd/wire"
)

// Spec: MSC4306, MSC4308.
func (a *API) subscriptionRoutes() []wire.Route {
	const thread = "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{threadRoot}/subscription"
	return []wire.Route{
		{Method: "GET", Pattern: thread, Handle: a.subscription, Flags: late},
		{Method: "PUT", Pattern: thread, Handle: a.subscribe, Flags: late, Class: wire.Send},
		{Method: "GET", Pattern: "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions", Handle: a.subscriptions, Flags: late},
		{Method: "DELETE", Pattern: thread, Handle: a.unsubscribe, Flags: late | wire.EmptyBody, Class: wire.Send},
	}
}

// thread opens the room of the path and finds the thread, which has to be the
// user's to see.
func (a *API) thread(r *wire.Req) (*history.View, mxid.EventID, error) {
	v, err := a.look(r)
	if err == nil {
		err = v.Joined()
	}
	if fault.Is(err, fault.Forbidden) {
		err = fault.E(fault.NotFound, "clientapi.thread", "there is no such thread")
	}
	if err != nil {
		return nil, "", err
	}
	root := mxid.EventID(r.Path("threadRoot"))
	_, err = v.Find(root)
	return v, root, err
}

func (a *API) subscription(r *wire.Req) error {
	v, root, err := a.thread(r)
	if err != nil {
		return err
	}
	s, ok, err := a.accounts.Subscription(r.Session.User, uint32(v.Room), root)
	if err != nil {
		return err
	}
	if !ok || s.Ended {
		return fault.E(fault.NotFound, "clientapi.subscription", "you are not subscribed to this thread")
	}
	return r.OK(append(strconv.AppendBool(append(r.Out(), `{"automatic":`...), s.Automatic), '}'))
}

func (a *API) subscribe(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	by, automatic, err := text(body, "automatic")
	if err != nil {
		return err
	}
	v, root, err := a.thread(r)
	if err != nil {
		return err
	}
	var cause room.Key
	if automatic {
		e, err := v.Find(mxid.EventID(by))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			target, relType := room.RelationOf(e)
			if relType == room.RelThread && target == root {
				cause = e.At
			}
		}
		if cause == (room.Key{}) {
			return fault.E(fault.NotInThread, "clientapi.subscribe", "the event is not in the thread")
		}
	}
	if err := a.accounts.Subscribe(r.Session.User, uint32(v.Room), root, cause.Pos); err != nil {
		return err
	}
	return r.Empty()
}

// subscriptions lists what changed of the user's thread subscriptions, the latest
// first. Spec: MSC4308.
func (a *API) subscriptions(r *wire.Req) error {
	const op = "clientapi.subscriptions"
	if dir := r.QueryOr("dir", "b"); dir != "b" {
		return fault.E(fault.Invalid, op, "dir can only be b")
	}
	limit, err := r.QueryInt("limit", 100, 1, 100)
	if err != nil {
		return err
	}
	at := sync.ThreadRange{Upto: a.engine.Sync.Tip(), Limit: int(limit)}
	if from, ok := r.Query("from"); ok {
		if at.Upto, ok = sync.ThreadsFrom(from); !ok {
			return fault.E(fault.Invalid, op, "from is no token of this list")
		}
	}
	if to, ok := r.Query("to"); ok {
		key, err := sync.Place(to)
		if err != nil {
			return fault.E(fault.Invalid, op, "to is no token of sync")
		}
		at.After = max(key.Pos, 1) - 1
	}
	page, err := a.engine.Sync.Threads(r.Out(), r.Session.User, at)
	if err != nil {
		return err
	}
	return r.OK(page.Body)
}

func (a *API) unsubscribe(r *wire.Req) error {
	v, root, err := a.thread(r)
	if err != nil {
		return err
	}
	if err := a.accounts.Unsubscribe(r.Session.User, uint32(v.Room), root); err != nil {
		return err
	}
	return r.Empty()
}
