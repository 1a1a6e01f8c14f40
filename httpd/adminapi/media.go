package adminapi

import (
	"encoding/json"
	"strconv"

	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

func (a *API) mediaRoutes() []wire.Route {
	const one = "/{serverName}/{mediaId}"
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/users/{userId}/media", Handle: a.userMedia},
		{Method: "GET", Pattern: v1 + "/users/{userId}/pushers", Handle: a.pushers},
		{Method: "GET", Pattern: v1 + "/statistics/users/media", Handle: a.mediaByUser},
		{Method: "DELETE", Pattern: v1 + "/media" + one, Handle: a.deleteMedia},
		{Method: "POST", Pattern: v1 + "/media/quarantine" + one, Handle: a.quarantine},
		{Method: "POST", Pattern: v1 + "/media/unquarantine" + one, Handle: a.unquarantine},
		{Method: "POST", Pattern: v1 + "/purge_media_cache", Handle: a.purgeMedia, Flags: wire.Heavy},
	}
}

// mediaJSON is a file as the tools read one.
type mediaJSON struct {
	ID      string  `json:"media_id"`
	Type    string  `json:"media_type"`
	Size    int64   `json:"media_length"`
	Name    *string `json:"upload_name"`
	Created int64   `json:"created_ts"`
	Access  *int64  `json:"last_access_ts"`
	Blocked bool    `json:"quarantined"`
}

func (a *API) userMedia(r *wire.Req) error {
	p, err := readPage(r)
	if err != nil {
		return err
	}
	u, err := a.own(r)
	if err != nil {
		return err
	}
	list, total := []mediaJSON{}, int64(0)
	err = a.engine.Media.EachOf(u.Num, func(m *media.Media) bool {
		if total++; total > p.from && int64(len(list)) < p.limit {
			j := mediaJSON{ID: m.ID, Type: m.Type, Size: m.Size, Name: orNull(m.Name), Created: m.Created.UnixMilli(), Blocked: m.Blocked}
			if !m.Access.IsZero() {
				ms := m.Access.UnixMilli()
				j.Access = &ms
			}
			list = append(list, j)
		}
		return true
	})
	if err != nil {
		return err
	}
	answer := struct {
		Media []mediaJSON `json:"media"`
		Next  int64       `json:"next_token,omitempty"`
		Total int64       `json:"total"`
	}{Media: list, Total: total}
	if next := p.from + int64(len(list)); next < total {
		answer.Next = next
	}
	return r.Answer(answer)
}

// mediaByUser says how much each user keeps here.
func (a *API) mediaByUser(r *wire.Req) error {
	p, err := readPage(r)
	if err != nil {
		return err
	}
	type usage struct {
		User    mxid.UserID `json:"user_id"`
		Display *string     `json:"displayname"`
		Files   int64       `json:"media_count"`
		Bytes   int64       `json:"media_length"`
	}
	all := []usage{}
	for after := uint32(0); len(all) < maxListed; {
		list, err := a.accounts.Users(after, 500)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		after = list[len(list)-1].Num
		for i := range list {
			size, files, err := a.engine.Media.Used(list[i].Num)
			if err != nil {
				return err
			}
			if files == 0 {
				continue
			}
			name, _, err := a.accounts.NameAndAvatar(list[i].Num)
			if err != nil {
				return err
			}
			all = append(all, usage{list[i].ID, orNull(name), files, size})
		}
	}
	from, to := p.cut(len(all))
	answer := struct {
		Users []usage `json:"users"`
		Next  int     `json:"next_token,omitempty"`
		Total int     `json:"total"`
	}{Users: all[from:to], Total: len(all)}
	if to < len(all) {
		answer.Next = to
	}
	return r.Answer(answer)
}

// file reads the names in the path. Those that are kept from everybody are not
// found by the usual way.
func file(r *wire.Req) (origin mxid.Server, id string, err error) {
	if id = r.Path("mediaId"); !media.ValidID(id) {
		err = fault.E(fault.Invalid, "adminapi.media", "this is no media id")
	}
	return mxid.Server(r.Path("serverName")), id, err
}

func (a *API) deleteMedia(r *wire.Req) error {
	origin, id, err := file(r)
	if err == nil {
		err = a.engine.Media.Delete(origin, id)
	}
	if err != nil {
		return err
	}
	return r.Answer(struct {
		IDs   []string `json:"deleted_media"`
		Total int      `json:"total"`
	}{[]string{id}, 1})
}

func (a *API) quarantine(r *wire.Req) error   { return a.blockMedia(r, true) }
func (a *API) unquarantine(r *wire.Req) error { return a.blockMedia(r, false) }

func (a *API) blockMedia(r *wire.Req, on bool) error {
	origin, id, err := file(r)
	if err == nil {
		err = a.engine.Media.Block(origin, id, on)
	}
	if err != nil {
		return err
	}
	return r.Empty()
}

// purgeMedia deletes copies of other servers' files that nobody fetched since.
func (a *API) purgeMedia(r *wire.Req) error {
	before, err := strconv.ParseInt(r.QueryOr("before_ts", ""), 10, 64)
	if err != nil || before < 0 {
		return fault.E(fault.Missing, "adminapi.purgeMedia", "before_ts is a time in milliseconds")
	}
	var old []media.Media
	err = a.engine.Media.Each(func(m *media.Media) bool {
		last := max(m.Access.UnixMilli(), m.Created.UnixMilli())
		if m.Origin != a.engine.Server && last < before {
			old = append(old, media.Media{Origin: m.Origin, ID: m.ID})
		}
		return len(old) < maxListed
	})
	if err != nil {
		return err
	}
	deleted := 0
	for i := range old {
		if err := a.engine.Media.Delete(old[i].Origin, old[i].ID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		deleted++
	}
	return r.Answer(struct {
		Deleted int `json:"deleted"`
	}{deleted})
}

func (a *API) pushers(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	list, err := a.accounts.Pushers(u.Num)
	if err != nil {
		return err
	}
	type pusher struct {
		AppName string          `json:"app_display_name"`
		App     string          `json:"app_id"`
		Device  string          `json:"device_display_name"`
		Kind    string          `json:"kind"`
		Lang    string          `json:"lang"`
		Tag     string          `json:"profile_tag"`
		Key     string          `json:"pushkey"`
		Data    json.RawMessage `json:"data"`
	}
	all := []pusher{}
	for i := range list {
		p := &list[i]
		all = append(all, pusher{p.AppName, p.App, p.DeviceName, p.Kind, p.Lang, p.Tag, p.Key, p.Data})
	}
	return r.Answer(struct {
		Pushers []pusher `json:"pushers"`
		Total   int      `json:"total"`
	}{all, len(all)})
}
