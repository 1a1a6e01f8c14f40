package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"hearth/engine/account"
	mqttbridge "hearth/engine/bridge"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/shadow"
	"hearth/engine/store"
	"hearth/engine/telemetry"
	"hearth/engine/thing"
)

// ThingOptions are what the hub does for things.
type ThingOptions struct {
	Served         bool                  // ServeThings will be called: commands wait for it
	Mappings       []*mqttbridge.Mapping // of the owner's file
	TelemetryDays  int                   // 0: telemetry's own
	TelemetryBytes int64                 // 0: telemetry's own
}

// openThings opens what is kept for things. The bridge follows the log from now
// on; the broker comes when somebody opens one.
func (e *Engine) openThings(o *Options) (err error) {
	if e.Things, err = thing.Open(e.st, e.Server, thing.Options{Dir: o.Dir, FS: o.FS, Now: e.clock.now}); err != nil {
		return err
	}
	if e.Shadows, err = shadow.Open(e.st, func() int64 { return e.clock.now().UnixMilli() }); err != nil {
		return err
	}
	e.crowned = make(chan struct{}, 1)
	e.Accounts.OnAdmin(func() {
		select {
		case e.crowned <- struct{}{}:
		default:
		}
	})
	if err := e.holdAlerts(); err != nil {
		return err
	}
	if e.Telemetry, err = telemetry.Open(e.st, telemetry.Options{
		Now: e.clock.now, Days: mqttbridge.LongestRetain(o.Things.Mappings), Bytes: o.Things.TelemetryBytes, Along: e.writeRetained,
	}); err != nil {
		return err
	}
	e.Bridge, err = mqttbridge.Open(mqttbridge.Parts{
		Store: e.st, Log: e.log, Rooms: e.Rooms, Accounts: e.Accounts, E2EE: e.E2EE, Things: e.Things, Shadows: e.Shadows,
		Telemetry: e.Telemetry, Served: o.Things.Served, Hub: e.Accounts.ID(noticesName), Now: e.clock.now, Note: o.Log,
		Deeds: mqttbridge.Deeds{
			Send: e.Send, State: e.State, Enter: e.enter, Crown: e.crownHub, Alerts: e.alerts, Resolve: e.Resolve, Create: e.createFor,
			Control: e.controlRoom, Tell: func(text string) { e.note(e.TellControl(text)) }, Order: e.orderThing,
			Later: func(user uint32, in mxid.RoomID, d *room.Draft, after time.Duration) (string, error) {
				return e.Later(user, in, d, after)
			},
			Cancel: e.delayed.Drop, Whisper: e.SendToDevice,
		},
	}, o.Things.Mappings)
	return err
}

// note says in the hub's log what went wrong where nobody waits for it.
func (e *Engine) note(err error) {
	if err != nil && e.logf != nil {
		e.logf("control room: %v", err)
	}
}

// crownHub gives the hub's own user power in a room, and makes it before. The
// power is that of who wrote the mapping which needs it.
func (e *Engine) crownHub(num room.Num, by mxid.UserID, level int64) error {
	hub, err := e.hubUser()
	if err != nil {
		return err
	}
	err = e.crown(num, hub, level, func(id mxid.UserID) (bool, error) { return e.speaksFor(id, by) })
	if fault.Is(err, fault.Forbidden) {
		return fault.E(fault.Forbidden, "engine.crownHub", "%s needs power level %d in the room; nobody gives it there who wrote the mapping or owns the hub", hub, level)
	}
	return err
}

// speaksFor says whether a mapping may be carried out in a user's name: that of
// who wrote it, or for those of the owner's file any admin's of this hub. The hub's
// own user gives what it has itself.
func (e *Engine) speaksFor(id, by mxid.UserID) (bool, error) {
	hub := e.Accounts.ID(noticesName)
	if id == by || id == hub {
		return true, nil
	}
	if by != "" && by != hub {
		return false, nil
	}
	num, err := e.Accounts.Find(id)
	if err != nil || num == 0 {
		return false, err
	}
	u, err := e.Accounts.User(num)
	return err == nil && u.Admin && !u.Deactivated, err
}

// alerts are the scheduled events that tell of a thing's loss, by thing.
func (e *Engine) alerts() map[string][]string {
	all := map[string][]string{}
	for _, d := range e.delayed.All() {
		if name, ok := mqttbridge.Alert(d.Txn); ok {
			all[name] = append(all[name], d.ID)
		}
	}
	return all
}

// holdAlerts lets the alerts that are due now, at the hub's start, wait anew: things
// come back with the hub, and need a moment for it.
func (e *Engine) holdAlerts() error {
	now := e.clock.now()
	for _, d := range e.delayed.All() {
		if _, ok := mqttbridge.Alert(d.Txn); !ok || !mqttbridge.Grace(now, time.UnixMilli(d.Due())) {
			continue
		}
		if err := e.delayed.Restart(d.ID, now.UnixMilli()); err != nil && !fault.Is(err, fault.Full) {
			return err
		}
	}
	return nil
}

// ServeThings starts the broker: from now on things may come in, by the secrets
// and certificates of package thing, and people by an access token. It ends with
// the engine.
func (e *Engine) ServeThings(limits mqtt.Limits) (*mqtt.Broker, error) {
	broker, err := mqtt.Open(mqtt.Options{
		Store: e.st, Auth: e.letIn, Alive: e.alive, May: e.Bridge.May, Tap: e.Bridge.Tap, Limits: limits, Now: e.clock.now, Log: e.logf,
	})
	if err != nil {
		return nil, err
	}
	e.broker.Store(broker)
	e.Bridge.Attach(broker)
	e.running.Go(e.greetAdmins)
	e.OnRevoke(func(name string) { broker.EndAll(name, mqtt.Administrative, "the thing was revoked") })
	e.Accounts.OnPurge(func(user uint32) {
		if id, err := e.names.Name(store.Users, user); err == nil {
			broker.Review(id, e.Things.Short(id)) // a person's sessions, or a thing's
		}
	})
	broker.Review() // the power may have failed before those who were ended had left
	return broker, nil
}

// writeRetained has the broker's retained values go to the disk with the samples
// that are about to: they are mostly the same things' last.
func (e *Engine) writeRetained() {
	if b := e.broker.Load(); b != nil {
		if err := b.WriteRetained(); err != nil && e.logf != nil {
			e.logf("mqtt: retained messages were not written: %v", err)
		}
	}
}

// Sessions gives the n sessions of things for which the broker holds most, the
// heaviest first; none where the hub serves no things.
func (e *Engine) Sessions(n int) []mqtt.Load {
	b := e.broker.Load()
	if b == nil {
		return nil
	}
	return b.Loads(n)
}

// letIn is the broker's Auth.
func (e *Engine) letIn(_ context.Context, c *mqtt.Connect) (mqtt.Identity, error) {
	const op = "engine.letIn"
	if len(c.Certs) > 0 {
		one, err := e.Things.ByCertificate(c.Certs[0])
		if err != nil {
			return mqtt.Identity{}, err
		}
		if c.Username != "" && e.Things.Short(c.Username) != one.Name {
			return mqtt.Identity{}, fault.E(fault.Unauthorised, op, "the certificate is of another thing than the user name")
		}
		return mqtt.Identity{Name: one.Name}, nil
	}
	if c.Username == "" {
		return mqtt.Identity{}, fault.E(fault.Unauthorised, op, "a thing needs a user name and a password, or a certificate")
	}
	one, err := e.Things.Authenticate(c.Username, string(c.Password), c.Remote)
	switch {
	case err == nil:
		return mqtt.Identity{Name: one.Name}, nil
	case fault.Is(err, fault.Limit):
		return mqtt.Identity{}, err
	case !fault.Is(err, fault.NotFound):
		return mqtt.Identity{}, fault.E(fault.Unauthorised, op, "wrong user name or password")
	}
	if id, err := e.person(c); id.Name != "" || err != nil {
		return id, err
	}
	fresh, err := e.Things.Knock(c.Username, c.ClientID, string(c.Password), c.Remote)
	if err != nil {
		return mqtt.Identity{}, err
	}
	if fresh {
		name := e.Things.Short(c.Username)
		e.knocked(name, strings.ToValidUTF8(c.ClientID, "?"), c.Remote.String())
	}
	return mqtt.Identity{}, fault.E(fault.Forbidden, op, "the hub does not know this thing yet; its owner was told")
}

// person lets people in by their name and an access token in place of a password.
// The name is empty for who is no user here.
func (e *Engine) person(c *mqtt.Connect) (id mqtt.Identity, err error) {
	const op = "engine.letIn"
	user := mxid.UserID(c.Username)
	if !strings.HasPrefix(c.Username, "@") {
		user = e.Accounts.ID(mxid.LowerLocalpart(c.Username))
	}
	num, err := e.Accounts.Find(user)
	if err != nil || num == 0 {
		return id, err
	}
	s, err := e.Accounts.Authenticate(c.Password)
	if err != nil || s.User != num {
		return id, fault.E(fault.Unauthorised, op, "a person comes in with an access token as password")
	}
	if s.Guest {
		return id, fault.E(fault.GuestAccess, op, "guests have no topics")
	}
	return mqtt.Identity{Name: string(s.UserID), Token: strconv.FormatUint(s.DeviceNum, 10)}, nil
}

// alive is the broker's Alive: a thing must not be revoked, a person must have the
// device whose token was shown, and nobody's account may be ended, locked or
// suspended. Who is suspended may read; by MQTT nobody comes in to do only that.
func (e *Engine) alive(id mqtt.Identity) error {
	const op = "engine.alive"
	var num uint32
	if strings.HasPrefix(id.Name, "@") {
		var err error
		if num, err = e.Accounts.Find(mxid.UserID(id.Name)); err != nil {
			return err
		}
	} else if one, err := e.Things.Find(id.Name); err != nil || one.Revoked {
		return fault.E(fault.Forbidden, op, "the thing was revoked")
	} else {
		num = one.User
	}
	u, err := e.Accounts.User(num)
	switch {
	case err != nil:
		return err
	case u.Deactivated:
		return fault.E(fault.Deactivated, op, "the account was deactivated")
	case u.Locked:
		return fault.E(fault.Locked, op, "the account is locked")
	case u.Suspended:
		return fault.E(fault.Suspended, op, "the account is suspended")
	case id.Token == "":
		return nil
	}
	list, err := e.Accounts.Devices(num)
	if err == nil && !slices.ContainsFunc(list, func(d account.Device) bool { return strconv.FormatUint(d.Num, 10) == id.Token }) {
		err = fault.E(fault.UnknownToken, op, "the access token has ended")
	}
	return err
}

// notice is the content of a message of the hub.
func notice(text string) []byte {
	return append(cjson.AppendString([]byte(`{"msgtype":"m.notice","body":`), text), '}')
}
