package bridge

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"hearth/engine/mqtt"
	"hearth/engine/room"
)

// A last will with alert_in is a scheduled event, which is taken back where the
// thing returns in time. What ties it to the thing is its transaction, so that
// this is known after a restart too.

const willPrefix = txnPrefix + "will/"

// maxAlerts bounds the scheduled alerts of one thing: one whose connection breaks
// all the time has none the more for it.
const maxAlerts = 8

// Alert says which thing a scheduled event tells the loss of. ok is false for
// events that are something else.
func Alert(txn string) (thing string, ok bool) {
	rest, ok := strings.CutPrefix(txn, willPrefix)
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(rest, '/')
	return rest[:max(i, 0)], i > 0
}

// loadAlerts reads which alerts wait.
func (b *Bridge) loadAlerts() {
	b.gone = b.p.Deeds.Alerts()
	if b.gone == nil {
		b.gone = map[string][]string{}
	}
}

// alertLater has a last will told only where the thing does not come back in
// time. Its user is in the room.
func (b *Bridge) alertLater(to *Mapping, num room.Num, m *mqtt.Message, d *room.Draft) error {
	name := m.From.Name
	id, err := b.p.Rooms.RoomID(num)
	if err != nil {
		return err
	}
	user, err := b.p.Accounts.Find(d.Sender)
	if err != nil {
		return err
	}
	if one, err := b.p.Things.Find(name); err == nil && one.DeviceNum != 0 {
		var raw [12]byte
		_, _ = rand.Read(raw[:]) // never fails
		d.Txn = room.Txn{Device: one.DeviceNum, ID: willPrefix + name + "/" + hex.EncodeToString(raw[:])}
	}
	b.mu.Lock()
	full := len(b.gone[name]) >= maxAlerts
	b.mu.Unlock()
	if full {
		return nil
	}
	waits, err := b.p.Deeds.Later(user, id, d, to.alertIn)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone[name] = append(b.gone[name], waits)
	return nil
}

// back takes back the alerts of a thing that is there again.
func (b *Bridge) back(name string) {
	b.mu.Lock()
	ids := b.gone[name]
	delete(b.gone, name)
	b.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	if !b.do(name, 64, func() {
		for _, id := range ids {
			_ = b.p.Deeds.Cancel(id) // it was sent meanwhile
		}
	}) {
		b.mu.Lock()
		b.gone[name] = append(ids, b.gone[name]...)
		b.mu.Unlock()
	}
}

// welcome takes back the alerts of things that are connected: one that only
// listens says nothing when it returns, and a connection that took the place of a
// dead one had that one's last will told after it.
func (b *Bridge) welcome() {
	b.mu.Lock()
	names := make([]string, 0, len(b.gone))
	for name := range b.gone {
		names = append(names, name)
	}
	b.mu.Unlock()
	broker := b.broker.Load()
	if len(names) == 0 || broker == nil {
		return
	}
	slices.Sort(names)
	for _, name := range broker.Connected(names) {
		b.back(name)
	}
}

// forgetAlerts forgets which alerts wait that were sent meanwhile.
func (b *Bridge) forgetAlerts() {
	waiting := b.p.Deeds.Alerts()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, ids := range b.gone {
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(waiting[name], id) })
		if b.gone[name] = ids; len(ids) == 0 {
			delete(b.gone, name)
		}
	}
}

// mention has the whole room alerted by a message.
func mention(content []byte) []byte {
	return append(content[:len(content)-1], `,"m.mentions":{"room":true}}`...)
}

// alertGrace is how long after the hub's start an alert waits at least: all
// things come back at once after a power cut, and are not to be reported lost
// before they had the time.
const alertGrace = time.Minute

// Grace says whether an alert that is due at a time has to begin to wait anew,
// because the hub has only now started.
func Grace(now, due time.Time) bool { return due.Before(now.Add(alertGrace)) }
