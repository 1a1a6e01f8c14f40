package push

import (
	"context"
	"errors"
	"strconv"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/stream"
)

// Options are the ways out, and how patient they are.
type Options struct {
	// Post sends a body of JSON to a push gateway.
	Post func(ctx context.Context, url string, body []byte) (status int, answer []byte, err error)
	// Mail sends a text; nil: the hub sends no mail.
	Mail        func(ctx context.Context, to, subject, text string) error
	MailDelay   time.Duration // how long something is unread before it is mailed; 0: 10 minutes
	First, Most time.Duration // waits after failures, see package outbox
	Now         func() time.Time
	Log         func(format string, args ...any) // nil: dropped
}

func (o *Options) defaults() {
	if o.MailDelay == 0 {
		o.MailDelay = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
}

// deliver tells one pusher; see outbox.Deliver.
func (p *Push) deliver(ctx context.Context, dest string, from, upto stream.Pos) (stream.Pos, error) {
	user, id, ok := parseDest(dest)
	if !ok {
		return upto, nil
	}
	pu, ok, err := p.Accounts.Pusher(user, id)
	if err != nil {
		return from, err
	}
	if !ok {
		p.forget(dest)
		return upto, nil
	}
	s, err := p.seeker(user, upto)
	if err != nil {
		return from, err
	}
	hits, moved, err := s.since(max(from, pu.Since))
	if err != nil {
		return from, err
	}
	switch pu.Kind {
	case account.PushHTTP:
		return p.toGateway(ctx, &letter{s: s, pusher: &pu, dest: dest}, hits, moved, from)
	case account.PushEmail:
		return p.toMail(ctx, &letter{s: s, pusher: &pu, dest: dest}, hits, from)
	}
	return upto, nil
}

func (p *Push) forget(dest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.badge, dest)
}

// letter is what is on its way to one pusher.
type letter struct {
	s      *seeker
	pusher *account.Pusher
	dest   string
}

// toGateway tells a push gateway of each event, or only of new counts.
func (p *Push) toGateway(ctx context.Context, l *letter, hits []hit, moved bool, from stream.Pos) (stream.Pos, error) {
	upto := l.s.upto
	if len(hits) == 0 && !moved {
		return upto, nil
	}
	counts, err := l.s.count()
	if err != nil {
		return from, err
	}
	if len(hits) == 0 {
		p.mu.Lock()
		last, told := p.badge[l.dest]
		p.mu.Unlock()
		if told && last == counts {
			return upto, nil
		}
	}
	acked := from
	if len(hits) == 0 {
		hits = []hit{{pos: upto}}
	}
	for i := range hits {
		gone, err := p.post(ctx, l, &hits[i], counts)
		if err != nil {
			return acked, err
		}
		if gone {
			return upto, p.drop(l, "is rejected by its gateway")
		}
		acked = hits[i].pos
	}
	p.mu.Lock()
	p.badge[l.dest] = counts
	p.mu.Unlock()
	return upto, nil
}

// post sends one notification; gone says that the gateway does not know the
// pushkey any more.
func (p *Push) post(ctx context.Context, l *letter, h *hit, counts tally) (gone bool, err error) {
	body, err := p.notification(l, h, counts)
	if err != nil {
		return false, err
	}
	if p.o.Post == nil {
		return false, errors.New("the hub asks no push gateways")
	}
	url, _ := cjson.LookupString(l.pusher.Data, "url")
	status, answer, err := p.o.Post(ctx, url, body)
	switch {
	case err != nil:
		return false, err
	case status < 200 || status > 299:
		return false, errors.New("the push gateway answered " + strconv.Itoa(status))
	}
	list, _ := cjson.Lookup(answer, "rejected")
	if cjson.Check(answer) != nil || cjson.KindOf(list) != cjson.ArrayKind {
		return false, nil
	}
	err = cjson.Array(list, func(val []byte) bool {
		key, _ := cjson.String(val)
		gone = gone || key == l.pusher.Key
		return !gone
	})
	return gone, err
}

// drop deletes a pusher that its gateway has rejected, or that is void otherwise.
// Spec: push gateway, POST /notify, rejected.
func (p *Push) drop(l *letter, why string) error {
	p.o.Log("push: a pushkey of %s for %s %s; the pusher is dropped", l.s.r.ID, l.pusher.App, why)
	_, err := p.Log.Commit(func(tx *stream.Tx) error { return p.Accounts.DropPusher(tx, l.s.r.User, l.pusher.ID()) })
	p.forget(l.dest)
	if fault.Is(err, fault.Full) {
		return nil // the next notification is rejected too
	}
	return err
}

// notification is the body of a request to a push gateway.
// Spec: push gateway, POST /notify.
func (p *Push) notification(l *letter, h *hit, counts tally) ([]byte, error) {
	format, _ := cjson.LookupString(l.pusher.Data, "format")
	short := format == "event_id_only"
	dst := append(make([]byte, 0, 1024), `{"notification":{`...)
	if h.e != nil {
		dst = cjson.AppendString(append(dst, `"event_id":`...), string(h.e.ID))
		dst = cjson.AppendString(append(dst, `,"room_id":`...), string(h.head.ID))
		if h.actions.Highlight || h.actions.Sound != "" || h.e.Type == "m.room.encrypted" {
			dst = append(dst, `,"prio":"high",`...)
		} else {
			dst = append(dst, `,"prio":"low",`...)
		}
		if h.e.Type == "m.call.invite" && counts.calls > 0 {
			counts.calls-- // it is ringing
		}
		if !short {
			var err error
			if dst, err = p.appendEvent(dst, l, h); err != nil {
				return nil, err
			}
		}
	}
	dst = append(dst, `"counts":{`...)
	if counts.unread > 0 {
		dst = strconv.AppendInt(append(dst, `"unread":`...), int64(counts.unread), 10)
	}
	if counts.calls > 0 {
		dst = strconv.AppendInt(append(dst, `,"missed_calls":`...), int64(counts.calls), 10)
	}
	dst = append(dst, `},"devices":[`...)
	dst = appendDevice(dst, l.pusher, h, short)
	return append(dst, `]}}`...), nil
}

// appendEvent appends what the full form tells of an event, a comma last.
func (p *Push) appendEvent(dst []byte, l *letter, h *hit) ([]byte, error) {
	e := h.e
	dst = cjson.AppendString(append(dst, `"type":`...), e.Type)
	dst = cjson.AppendString(append(dst, `,"sender":`...), string(e.Sender))
	dst = append(append(append(dst, `,"content":`...), e.Content...), ',')
	who, err := p.stateText(h, "m.room.member", string(e.Sender), "displayname")
	if err != nil {
		return nil, err
	}
	name, err := p.roomName(h, l.s.r.User)
	if err != nil {
		return nil, err
	}
	alias, err := p.stateText(h, "m.room.canonical_alias", "", "alias")
	if err != nil {
		return nil, err
	}
	for _, f := range [...]struct{ as, text string }{{"sender_display_name", who}, {"room_name", name}, {"room_alias", alias}} {
		if f.text != "" {
			dst = append(append(append(dst, '"'), f.as...), `":`...)
			dst = append(cjson.AppendString(dst, f.text), ',')
		}
	}
	if e.Is("m.room.member", string(l.s.r.ID)) {
		dst = append(dst, `"user_is_target":true,`...)
	}
	return dst, nil
}

func appendDevice(dst []byte, pu *account.Pusher, h *hit, short bool) []byte {
	dst = cjson.AppendString(append(dst, `{"app_id":`...), pu.App)
	dst = cjson.AppendString(append(dst, `,"pushkey":`...), pu.Key)
	dst = strconv.AppendInt(append(dst, `,"pushkey_ts":`...), pu.Set.Unix(), 10)
	dst = append(dst, `,"data":{`...)
	start := len(dst)
	// It was made canonical when it was set.
	_ = cjson.Object(pu.Data, func(key, val []byte) bool {
		if string(key) == "url" {
			return true
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(cjson.AppendString(dst, string(key)), ':'), val...)
		return true
	})
	dst = append(dst, '}')
	if h.e != nil && !short {
		dst = append(appendTweaks(append(dst, `,"tweaks":{`...), h.actions.Raw), '}')
	}
	return append(dst, '}')
}

// appendTweaks appends the tweaks of a rule's actions, without braces.
func appendTweaks(dst, actions []byte) []byte {
	start := len(dst)
	// The actions were parsed when the rule was.
	_ = cjson.Array(actions, func(val []byte) bool {
		if cjson.KindOf(val) != cjson.ObjectKind {
			return true
		}
		name, ok := cjson.LookupString(val, "set_tweak")
		if !ok {
			return true
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, name), ':')
		if value, ok := cjson.Lookup(val, "value"); ok {
			dst = append(dst, value...)
		} else {
			dst = append(dst, `true`...)
		}
		return true
	})
	return dst
}
