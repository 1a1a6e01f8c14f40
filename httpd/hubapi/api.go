// Package hubapi is the part of the client API that is this hub's own, below
// /_hearth/client/v1: shadows and samples of things, for people and programs that
// have an access token.
//
//	GET    things/{name}/shadow                    the shadows of a thing that the asker may read
//	GET    things/{name}/shadow/{topic}            one: version, reported, desired, delta
//	PUT    things/{name}/shadow/{topic}/desired    a JSON merge patch (RFC 7396); ?version= refuses a stale one
//	DELETE things/{name}/shadow/{topic}            deletes it, and what its room shows of it
//	GET    telemetry?topic=FILTER                  the topics with samples
//	GET    telemetry/{topic}?from=&until=&step=&field=
//	                                               points of min, max, mean, last and count; times in milliseconds
//	GET    export?topic=FILTER&format=csv|line|prometheus&from=&until=
//
// A topic in a path is percent-encoded. It refuses to have a policy of its own:
// who may read or set what is asked of package bridge, as it is by MQTT; admins of
// the hub may all.
package hubapi

import (
	"bufio"
	"encoding/json"
	"math"
	"time"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/shadow"
	"hearth/engine/telemetry"
	"hearth/engine/topic"
	"hearth/httpd/wire"
)

const base = "/_hearth/client/v1"

// API holds what the handlers work on.
type API struct{ engine *engine.Engine }

// New makes the API of an engine.
func New(e *engine.Engine) *API { return &API{e} }

// Routes are all routes of the API.
func (a *API) Routes() []wire.Route {
	const one = base + "/things/{name}/shadow/{topic}"
	return []wire.Route{
		{Method: "GET", Pattern: base + "/things/{name}/shadow", Handle: a.shadows, Flags: wire.Auth},
		{Method: "GET", Pattern: one, Handle: a.shadow, Flags: wire.Auth},
		{Method: "PUT", Pattern: one + "/desired", Handle: a.desire, Flags: wire.Auth | wire.Active, Body: shadow.MaxValue},
		{Method: "DELETE", Pattern: one, Handle: a.deleteShadow, Flags: wire.Auth | wire.Active | wire.EmptyBody},
		{Method: "GET", Pattern: base + "/telemetry", Handle: a.topics, Flags: wire.Auth},
		{Method: "GET", Pattern: base + "/telemetry/{topic}", Handle: a.points, Flags: wire.Auth},
		{Method: "GET", Pattern: base + "/export", Handle: a.export, Flags: wire.Auth},
	}
}

// may refuses who may not do something with a topic; that there is nothing is told
// only to who may know.
func (a *API) may(r *wire.Req, op mqtt.Op, name string) error {
	if err := topic.CheckName(name); err != nil {
		return fault.E(fault.Invalid, "hubapi", "%q is no topic: %w", name, err)
	}
	if r.Session.Admin || a.engine.Bridge.MayUser(r.Session.UserID, op, name) {
		return nil
	}
	return fault.E(fault.Forbidden, "hubapi", "you may not use this topic")
}

func (a *API) shadows(r *wire.Req) error {
	dst := append(r.Out(), `{"shadows":[`...)
	n := 0
	err := a.engine.Shadows.List(r.Path("name"), func(one *shadow.State) bool {
		if a.may(r, mqtt.Receive, one.Topic) != nil {
			return true
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = one.Append(dst)
		return n < 500
	})
	if err != nil {
		return err
	}
	return r.OK(append(dst, `]}`...))
}

func (a *API) shadow(r *wire.Req) error {
	if err := a.may(r, mqtt.Receive, r.Path("topic")); err != nil {
		return err
	}
	one, err := a.engine.Shadows.Get(r.Path("name"), r.Path("topic"))
	if err != nil {
		return err
	}
	return r.OK(one.Append(r.Out()))
}

func (a *API) desire(r *wire.Req) error {
	if err := a.may(r, mqtt.Publish, r.Path("topic")); err != nil {
		return err
	}
	version, err := r.QueryInt("version", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	patch, err := r.Body(shadow.MaxValue)
	if err != nil {
		return err
	}
	if _, err := a.engine.Things.Find(r.Path("name")); err != nil {
		return err
	}
	if err := a.engine.Bridge.Desire(r.Path("name"), r.Path("topic"), patch, uint64(version)); err != nil {
		return err
	}
	return a.answer(r)
}

// answer tells the shadow as it is now.
func (a *API) answer(r *wire.Req) error {
	one, err := a.engine.Shadows.Get(r.Path("name"), r.Path("topic"))
	if err != nil {
		return err
	}
	return r.OK(one.Append(r.Out()))
}

func (a *API) deleteShadow(r *wire.Req) error {
	if err := a.may(r, mqtt.Publish, r.Path("topic")); err != nil {
		return err
	}
	if err := a.engine.Bridge.DeleteShadow(r.Path("name"), r.Path("topic")); err != nil {
		return err
	}
	return r.Empty()
}

// filter reads the filter that a request asks with, and checks that the asker may
// read all topics with samples that it matches.
func (a *API) filter(r *wire.Req) (string, error) {
	f := r.QueryOr("topic", "#")
	if err := topic.CheckFilter(f); err != nil {
		return "", fault.E(fault.Invalid, "hubapi", "%q is no topic filter: %w", f, err)
	}
	return f, nil
}

func (a *API) topics(r *wire.Req) error {
	f, err := a.filter(r)
	if err != nil {
		return err
	}
	list := []string{}
	for _, name := range a.engine.Telemetry.Topics(f) {
		if a.may(r, mqtt.Receive, name) == nil {
			list = append(list, name)
		}
	}
	return r.Answer(struct {
		Topics []string `json:"topics"`
	}{list})
}

// span reads the times of a request: by default the last day.
func span(r *wire.Req) (from, until int64, err error) {
	now := time.Now().UnixMilli()
	if until, err = r.QueryInt("until", now+1, 1, 1<<50); err != nil {
		return 0, 0, err
	}
	from, err = r.QueryInt("from", max(until-24*time.Hour.Milliseconds(), 0), 0, 1<<50)
	if err == nil && from >= until {
		err = fault.E(fault.Invalid, "hubapi", "from has to lie before until")
	}
	return from, until, err
}

type pointJSON struct {
	At    int64   `json:"at"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Mean  float64 `json:"mean"`
	Last  float64 `json:"last"`
	Count int     `json:"count"`
}

func (a *API) points(r *wire.Req) error {
	name := r.Path("topic")
	if err := a.may(r, mqtt.Receive, name); err != nil {
		return err
	}
	from, until, err := span(r)
	if err != nil {
		return err
	}
	step, err := r.QueryInt("step", max((until-from)/1000, 1), 1, 1<<50)
	if err != nil {
		return err
	}
	list, err := a.engine.Telemetry.Range(name, r.QueryOr("field", "*"), ms(from), ms(until), ms(step))
	if err != nil {
		return err
	}
	fields := map[string][]pointJSON{}
	total := 0
	for _, s := range list {
		points := make([]pointJSON, 0, len(s.Points))
		for _, p := range s.Points {
			points = append(points, pointJSON{p.At, p.Min, p.Max, p.Mean, p.Last, p.Count})
		}
		if total += len(points); total > telemetry.MaxPoints {
			return fault.E(fault.Invalid, "hubapi", "that are more than %d points: ask for one field, or with a longer step", telemetry.MaxPoints)
		}
		fields[s.Field] = points
	}
	body, err := json.Marshal(struct {
		Topic  string                 `json:"topic"`
		Step   int64                  `json:"step"`
		Fields map[string][]pointJSON `json:"fields"`
	}{name, step, fields})
	if err != nil {
		return err
	}
	return r.OK(body)
}

func ms(v int64) time.Duration { return time.Duration(v) * time.Millisecond }

// export streams samples. Who may not read one of the topics gets none of them:
// an export with holes would be taken for all.
func (a *API) export(r *wire.Req) error {
	f, err := a.filter(r)
	if err != nil {
		return err
	}
	from, until, err := span(r)
	if err != nil {
		return err
	}
	for _, name := range a.engine.Telemetry.Topics(f) {
		if err := a.may(r, mqtt.Receive, name); err != nil {
			return err
		}
	}
	format := telemetry.Format(r.QueryOr("format", string(telemetry.CSV)))
	kind := map[telemetry.Format]string{telemetry.CSV: "text/csv; charset=utf-8", telemetry.Line: "text/plain; charset=utf-8",
		telemetry.Prometheus: "text/plain; version=0.0.4; charset=utf-8"}[format]
	if kind == "" {
		return fault.E(fault.Invalid, "hubapi", "there is no format %q; csv, line and prometheus there are", string(format))
	}
	log := a.engine.Telemetry
	r.Ctx.SetContentType(kind)
	r.Ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		_ = log.Export(w, format, f, from, until) // the reader sees that it was cut
	})
	return nil
}
