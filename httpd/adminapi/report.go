package adminapi

import (
	"encoding/json"
	"strconv"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// reportJSON is a report as the tools read one.
type reportJSON struct {
	ID     uint64          `json:"id"`
	At     int64           `json:"received_ts"`
	By     mxid.UserID     `json:"user_id"` // who reported
	Room   *mxid.RoomID    `json:"room_id,omitempty"`
	Name   *string         `json:"name,omitempty"` // of the room
	Alias  *string         `json:"canonical_alias,omitempty"`
	Event  *mxid.EventID   `json:"event_id,omitempty"`
	Sender *mxid.UserID    `json:"sender,omitempty"`
	Target *mxid.UserID    `json:"target_user_id,omitempty"`
	Reason string          `json:"reason"`
	Score  *int64          `json:"score,omitempty"`
	JSON   json.RawMessage `json:"event_json,omitempty"`
}

func (a *API) describeReport(p *account.Report) (reportJSON, error) {
	by, err := a.accounts.User(p.By)
	if err != nil {
		return reportJSON{}, err
	}
	j := reportJSON{ID: p.Num, At: p.At.UnixMilli(), By: by.ID, Reason: p.Reason}
	switch p.Kind {
	case account.EventReport:
		j.Event, j.Sender, j.Score = &p.Event, &p.User, &p.Score
	case account.UserReport:
		j.Target = &p.User
		return j, nil
	}
	j.Room = &p.Room
	num, err := a.engine.Rooms.Find(p.Room)
	if fault.Is(err, fault.NotFound) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	s, err := a.engine.Summary(num)
	j.Name, j.Alias = orNull(s.Name), orNull(s.Alias)
	return j, err
}

// listReports makes the handler of one kind's list.
func (a *API) listReports(kind account.ReportKind, name string) wire.Handler {
	return func(r *wire.Req) error {
		p, err := readPage(r)
		if err != nil {
			return err
		}
		var by uint32
		if id := r.QueryOr("user_id", ""); id != "" {
			if by, err = a.accounts.Find(mxid.UserID(id)); err != nil {
				return err
			}
		}
		in, all := mxid.RoomID(r.QueryOr("room_id", "")), []account.Report{}
		err = a.accounts.Reports(kind, func(p *account.Report) bool {
			if (by == 0 || p.By == by) && (in == "" || p.Room == in) {
				all = append(all, *p)
			}
			return true
		})
		if err != nil {
			return err
		}
		from, to := p.cut(len(all))
		list := []reportJSON{}
		for i := range all[from:to] {
			j, err := a.describeReport(&all[from+i])
			if err != nil {
				return err
			}
			list = append(list, j)
		}
		answer := map[string]any{name: list, "total": len(all)}
		if to < len(all) {
			answer["next_token"] = to
		}
		return r.Answer(answer)
	}
}

// reportOf reads the report that the path names.
func (a *API) reportOf(r *wire.Req) (account.Report, error) {
	num, err := strconv.ParseUint(r.Path("reportId"), 10, 64)
	if err != nil {
		return account.Report{}, fault.E(fault.Invalid, "adminapi.report", "a report's id is a number")
	}
	return a.accounts.Report(num)
}

func (a *API) report(r *wire.Req) error {
	p, err := a.reportOf(r)
	if err != nil {
		return err
	}
	j, err := a.describeReport(&p)
	if err != nil {
		return err
	}
	if p.Event != "" {
		e, err := a.engine.Rooms.Lookup(p.Event)
		if err == nil {
			j.JSON, err = a.engine.Rooms.AppendClient(nil, e, room.Reader{})
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return r.Answer(j)
}

func (a *API) dropReport(r *wire.Req) error {
	p, err := a.reportOf(r)
	if err == nil {
		err = a.accounts.DropReport(p.Num)
	}
	if err != nil {
		return err
	}
	return r.Empty()
}
