package clientapi

import (
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// readReport reads the body of a report.
func readReport(r *wire.Req, kind account.ReportKind) (account.Report, error) {
	p := account.Report{Kind: kind, By: r.Session.User}
	body, err := r.Object()
	if err != nil {
		return p, err
	}
	reason, said, err := text(body, "reason")
	if err != nil {
		return p, err
	}
	if p.Reason = reason; !said && kind != account.EventReport {
		return p, fault.E(fault.Missing, "clientapi.report", "the body has no reason")
	}
	val, ok := cjson.Lookup(body, "score")
	if ok && kind == account.EventReport && cjson.KindOf(val) != cjson.NullKind {
		if p.Score, ok = cjson.Int(val); !ok {
			return p, fault.E(fault.BadJSON, "clientapi.report", "score must be a whole number")
		}
	}
	return p, nil
}

// Spec: client-server, POST /rooms/{roomId}/report/{eventId}. Only members
// report events; what they could not see does not exist for them.
func (a *API) reportEvent(r *wire.Req) error {
	p, err := readReport(r, account.EventReport)
	if err != nil {
		return err
	}
	e, err := a.reported(r)
	if err != nil {
		return err
	}
	p.Room, p.Event, p.User = mxid.RoomID(r.Path("roomId")), e.ID, e.Sender
	if err := a.accounts.AddReport(p); err != nil {
		return err
	}
	return r.Empty()
}

// reported finds the event of the path for a member who may see it.
func (a *API) reported(r *wire.Req) (*room.Event, error) {
	unknown := fault.E(fault.NotFound, "clientapi.report", "there is no such event in a room of yours")
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	if err != nil {
		return nil, orUnknown(err, unknown)
	}
	m, err := a.engine.Rooms.MemberOf(num, r.Session.User)
	if err != nil {
		return nil, err
	}
	e, err := a.engine.Rooms.Lookup(mxid.EventID(r.Path("eventId")))
	if err != nil {
		return nil, orUnknown(err, unknown)
	}
	if m.Membership != room.Join || e.In != num {
		return nil, unknown
	}
	v, err := a.engine.Rooms.Viewer(num, r.Session.UserID)
	if err != nil {
		return nil, err
	}
	sees, err := v.Sees(e)
	if err == nil && !sees {
		err = unknown
	}
	return e, err
}

// orUnknown takes the place of an error that says that something is not there.
func orUnknown(err, unknown error) error {
	if fault.Is(err, fault.NotFound) {
		return unknown
	}
	return err
}

// Spec: client-server, POST /rooms/{roomId}/report. Whether there is such a
// room is not told.
func (a *API) reportRoom(r *wire.Req) error {
	p, err := readReport(r, account.RoomReport)
	if err != nil {
		return err
	}
	p.Room = mxid.RoomID(r.Path("roomId"))
	_, err = a.engine.Rooms.Find(p.Room)
	if err == nil {
		err = a.accounts.AddReport(p)
	} else if fault.Is(err, fault.NotFound) {
		err = nil
	}
	if err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /users/{userId}/report. Users of other servers may
// be reported before the hub has met them, and nobody is told who is known.
func (a *API) reportUser(r *wire.Req) error {
	p, err := readReport(r, account.UserReport)
	if err != nil {
		return err
	}
	if p.User, err = mxid.ParseUser(r.Path("userId")); err != nil {
		return fault.E(fault.Invalid, "clientapi.reportUser", "this is no user id: %w", err)
	}
	known := true
	if p.User.Server() == a.engine.Server {
		num, err := a.accounts.Find(p.User)
		if err != nil {
			return err
		}
		known = num != 0
	}
	if known {
		if err := a.accounts.AddReport(p); err != nil {
			return err
		}
	}
	return r.Empty()
}
