package pushapi

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// notification is what a homeserver says of an event, or of new counts alone.
// Spec: push gateway, POST /_matrix/push/v1/notify.
type notification struct {
	Event      string          `json:"event_id"`
	Room       string          `json:"room_id"`
	Type       string          `json:"type"`
	Sender     string          `json:"sender"`
	SenderName string          `json:"sender_display_name"`
	RoomName   string          `json:"room_name"`
	RoomAlias  string          `json:"room_alias"`
	Target     bool            `json:"user_is_target"`
	Prio       string          `json:"prio"`
	Content    json.RawMessage `json:"content"`
	Counts     struct {
		Unread *int64 `json:"unread"`
		Calls  *int64 `json:"missed_calls"`
	} `json:"counts"`
	Devices []device `json:"devices"`
}

// device is one whom it is for.
type device struct {
	App  string `json:"app_id"`
	Key  string `json:"pushkey"`
	Data struct {
		Format   string          `json:"format"`
		Endpoint string          `json:"endpoint"`           // of Web Push
		Auth     string          `json:"auth"`               // of Web Push
		Point    string          `json:"p256dh"`             // of Web Push, where the pushkey is not it
		LastOnly bool            `json:"only_last_per_room"` // of Web Push: a newer one takes the older's place
		NoCounts bool            `json:"events_only"`        // nothing is told but events
		Default  json.RawMessage `json:"default_payload"`    // what the app wants to find in each
	} `json:"data"`
	Tweaks struct {
		Sound     json.RawMessage `json:"sound"`
		Highlight bool            `json:"highlight"`
	} `json:"tweaks"`
}

// parse reads the body of a request.
func parse(body []byte) (*notification, error) {
	const op = "pushapi.notify"
	var q struct {
		N *notification `json:"notification"`
	}
	if err := wire.Decode(body, &q); err != nil {
		return nil, err
	}
	switch {
	case q.N == nil:
		return nil, fault.E(fault.Missing, op, "the body has no notification")
	case q.N.Devices == nil:
		return nil, fault.E(fault.Missing, op, "the notification has no devices")
	case len(q.N.Devices) > maxDevices:
		return nil, fault.E(fault.Invalid, op, "a notification is for at most %d devices", maxDevices)
	}
	for i := range q.N.Devices {
		if d := &q.N.Devices[i]; d.App == "" || d.Key == "" {
			return nil, fault.E(fault.Missing, op, "a device has an app_id and a pushkey")
		}
	}
	return q.N, nil
}

// brief says that a device wants to fetch the event by itself.
func (d *device) brief() bool { return d.Data.Format == "event_id_only" }

// idle says that there is nothing to tell a device.
func (n *notification) idle(d *device) bool { return n.Event == "" && d.Data.NoCounts }

// urgent says whether it may wake the device.
func (n *notification) urgent() bool { return n.Prio != "low" }

// life is how long it is of use.
func (n *notification) life() time.Duration {
	if n.Type == "m.call.invite" {
		return time.Minute
	}
	return 24 * time.Hour
}

// payload is what an app is told, in one flat object of at most limit bytes: its
// own default first, then the event, then the counts. What is too long goes,
// the content first: the app can fetch the event by its id.
func (n *notification) payload(d *device, limit int) []byte {
	for cut := range 3 {
		if out := n.flat(d, cut); len(out) <= limit || cut == 2 {
			return out
		}
	}
	return nil
}

// flat is payload without the content (cut 1), and without the default (cut 2).
func (n *notification) flat(d *device, cut int) []byte {
	o := object{'{'}
	if cut < 2 && cjson.KindOf(d.Data.Default) == cjson.ObjectKind {
		_ = cjson.Object(d.Data.Default, func(key, val []byte) bool { // it is part of a body that was checked
			if !reserved[string(key)] {
				o.raw(string(key), val)
			}
			return true
		})
	}
	o.text("event_id", n.Event)
	o.text("room_id", n.Room)
	o.text("prio", n.Prio)
	if !d.brief() {
		o.text("type", n.Type)
		o.text("sender", n.Sender)
		o.text("sender_display_name", short(n.SenderName, 128))
		o.text("room_name", short(n.RoomName, 128))
		o.text("room_alias", n.RoomAlias)
		if n.Target {
			o.raw("user_is_target", []byte("true"))
		}
		if cut < 1 && cjson.KindOf(n.Content) == cjson.ObjectKind {
			o.raw("content", n.Content)
		}
	}
	if !d.Data.NoCounts {
		o.number("unread", n.Counts.Unread)
		o.number("missed_calls", n.Counts.Calls)
	}
	return o.end()
}

// reserved are the members that an app's default does not set.
var reserved = map[string]bool{
	"event_id": true, "room_id": true, "prio": true, "type": true, "sender": true, "sender_display_name": true, "room_name": true,
	"room_alias": true, "user_is_target": true, "content": true, "unread": true, "missed_calls": true,
}

// object is a JSON object that is being written.
type object []byte

func (o *object) key(key string) {
	if len(*o) > 1 {
		*o = append(*o, ',')
	}
	*o = append(cjson.AppendString(*o, key), ':')
}

func (o *object) raw(key string, val []byte) {
	o.key(key)
	*o = append(*o, val...)
}

// text leaves out what is empty.
func (o *object) text(key, val string) {
	if val != "" {
		o.key(key)
		*o = cjson.AppendString(*o, val)
	}
}

func (o *object) number(key string, val *int64) {
	if val != nil {
		o.key(key)
		*o = strconv.AppendInt(*o, *val, 10)
	}
}

func (o *object) end() []byte { return append(*o, '}') }

// short cuts a text at a number of bytes, between characters.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// body is the text of a message; empty where it has none or none may be told.
func (n *notification) body(d *device) string {
	if d.brief() || len(n.Content) == 0 {
		return ""
	}
	text, _ := cjson.LookupString(n.Content, "body")
	return short(text, 512)
}

// judge turns the answer of a push service, which differ little, into an error.
func judge(a *Answer, now time.Time) error {
	switch {
	case a.Status/100 == 2:
		return nil
	case a.Status == 404, a.Status == 410:
		return errRejected
	case a.Status == 429, a.Status >= 500:
		return &laterError{"the push service answered " + strconv.Itoa(a.Status), retryAfter(a.Retry, now)}
	}
	return &uselessError{a.Status}
}

// uselessError is errUseless with what was answered.
type uselessError struct{ status int }

func (e *uselessError) Error() string {
	return errUseless.Error() + " with status " + strconv.Itoa(e.status)
}
func (e *uselessError) Is(target error) bool { return target == errUseless }

// retryAfter reads the header, in seconds or as a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && n > 0 && n < 1<<20 {
		return time.Duration(n) * time.Second
	}
	if at, err := time.Parse(time.RFC1123, text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
