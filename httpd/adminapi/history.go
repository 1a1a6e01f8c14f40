package adminapi

import (
	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// purgeHistory begins to remove a room's history before an event, of the path or the
// body, or before a time. When it answers nobody is shown it any more.
func (a *API) purgeHistory(r *wire.Req) error { return a.purgeBefore(r, "") }

func (a *API) purgeHistoryTo(r *wire.Req) error { return a.purgeBefore(r, r.Path("eventId")) }

func (a *API) purgeBefore(r *wire.Req, event string) error {
	const op = "adminapi.purgeHistory"
	var q struct {
		Local bool    `json:"delete_local_events"`
		Event *string `json:"purge_up_to_event_id"`
		Time  *int64  `json:"purge_up_to_ts"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if event != "" {
		q.Event = &event
	}
	h := engine.History{Local: q.Local}
	switch {
	case q.Event != nil:
		id, err := mxid.ParseEvent(*q.Event)
		if err != nil {
			return fault.E(fault.Invalid, op, "this is no event id: %w", err)
		}
		h.Event = id
	case q.Time != nil:
		h.Time = *q.Time
	default:
		return fault.E(fault.Missing, op, "up to which event or time? purge_up_to_event_id or purge_up_to_ts says it")
	}
	num, err := a.known(r)
	if err != nil {
		return err
	}
	id, err := a.engine.PurgeHistory(num, h)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		ID string `json:"purge_id"`
	}{id})
}

// historyPurged says how it stands. It is known as long as no other part of the room
// is removed, after a restart too.
func (a *API) historyPurged(r *wire.Req) error {
	p, err := a.engine.HistoryPurged(r.Path("purgeId"))
	if err != nil {
		return err
	}
	status := "active"
	if p.Done {
		status = "complete"
	}
	return r.Answer(struct {
		Status string      `json:"status"`
		Room   mxid.RoomID `json:"room_id"`
		Events uint64      `json:"purged_events"`
		Bytes  uint64      `json:"purged_bytes"`
	}{status, p.Room, p.Events, p.Bytes})
}
