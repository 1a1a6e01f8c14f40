package ephemeral

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/store"
)

// State is how present a user is. Spec: client-server, presence.
type State uint8

// The states, the least present first.
const (
	Offline State = iota
	Unavailable
	Online
)

var stateNames = [...]string{"offline", "unavailable", "online"}

func (s State) String() string { return stateNames[s] }

// ParseState reads a state as requests spell it.
func ParseState(s string) (State, bool) {
	i := slices.Index(stateNames[:], s)
	return State(max(i, 0)), i >= 0
}

const (
	// grace is how long a device stays present after its request ended.
	grace = 30 * time.Second
	// statusHold is how long a state that was set by itself lasts where no
	// request for news follows.
	statusHold = 5 * time.Minute
	// idle is how long after the last activity nobody is taken to be there.
	idle = 5 * time.Minute
	// gather is how long changes of presence wait for others before anybody is
	// woken: after a power cut all clients of a hub come back at once, and each
	// is news to all.
	gather = 500 * time.Millisecond

	maxDevices = 16      // devices of one user that are told apart
	maxStatus  = 1024    // bytes of a status message
	maxPersons = 1 << 14 // users in memory before the absent are dropped
)

// person is one user's presence.
type person struct {
	state   State // as told last
	status  string
	acted   int64  // last activity in milliseconds; 0 where unknown
	seq     uint64 // of the last change; 0 where it never did in this process's life
	devices []device
	told    bool // by another server, which says itself what is so
	active  bool // there now, as that server says
}

// device is what one of a user's devices says.
type device struct {
	num   uint64
	state State
	until time.Time
}

// Status is a user's presence as others see it.
type Status struct {
	State   State
	Message string
	Acted   int64 // last activity in milliseconds; 0 where unknown
	Active  bool  // there now
}

// Seen notes that a device asks for news and will wait for them for so long.
// Offline notes nothing: the client does not want to be seen.
func (r *Records) Seen(user uint32, dev uint64, s State, hold time.Duration) error {
	if s == Offline {
		return nil
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.person(user)
	if err != nil {
		return err
	}
	was := p.find(dev)
	if s == Online && (was == nil || was.state != Online) {
		p.acted = now.UnixMilli() // somebody has come to the client
	}
	p.set(dev, s, now.Add(hold+grace))
	r.settle(user, p, now)
	return nil
}

// SetPresence sets a device's state and the user's status message, where one
// is given. Errors: TooLarge.
func (r *Records) SetPresence(user uint32, dev uint64, s State, status *string) error {
	if status != nil && len(*status) > maxStatus {
		return fault.E(fault.TooLarge, "ephemeral.SetPresence", "a status message has at most %d bytes", maxStatus)
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.person(user)
	if err != nil {
		return err
	}
	if s == Online {
		p.acted = now.UnixMilli()
	}
	until := now.Add(statusHold)
	if old := p.find(dev); old != nil && old.until.After(until) {
		until = old.until
	}
	p.set(dev, s, until)
	if status != nil && *status != p.status {
		p.status = *status
		p.seq = 0 // settle takes it for a change
		b := r.st.NewBatch()
		b.Set(store.U32(store.Presence.Prefix(), user), append(binary.AppendUvarint(nil, uint64(p.acted)), p.status...))
		if err := r.st.Apply(b); err != nil { // a status may be lost with the power
			return err
		}
	}
	r.settle(user, p, now)
	return nil
}

// Acted notes that a user did something, such as sending an event.
func (r *Records) Acted(user uint32) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	// Who was never seen wants it so, or the hub has just started; then the
	// next request for news tells.
	if p := r.present[user]; p != nil && len(p.devices) > 0 {
		p.acted = now.UnixMilli()
		r.settle(user, p, now)
	}
}

// Told notes what another server says of a user of its own. It holds until the
// server says something else, or for remoteHold. What is no news wakes nobody.
func (r *Records) Told(user uint32, s Status) error {
	if len(s.Message) > maxStatus {
		return fault.E(fault.TooLarge, "ephemeral.Told", "a status message has at most %d bytes", maxStatus)
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.present[user]; !known && s.State == Offline {
		return nil
	}
	p, err := r.person(user)
	if err != nil {
		return err
	}
	if p.status != s.Message || p.active != s.Active {
		p.seq = 0 // settle takes it for a change
	}
	p.told, p.status, p.acted, p.active = true, s.Message, s.Acted, s.Active
	p.devices = p.devices[:0]
	if s.State != Offline {
		p.set(0, s.State, now.Add(remoteHold))
	}
	r.settle(user, p, now)
	return nil
}

// remoteHold is how long what another server said is taken to be so: servers say
// it again before it is over, if they are there. Others hold it as long.
const remoteHold = 30 * time.Minute

// person gives a user's presence, read from the disk where it is not in memory.
func (r *Records) person(user uint32) (*person, error) {
	if p := r.present[user]; p != nil {
		return p, nil
	}
	p := &person{}
	val, ok, err := r.st.Get(nil, store.U32(store.Presence.Prefix(), user))
	if err != nil {
		return nil, err
	}
	if ok {
		acted, n := binary.Uvarint(val)
		if n <= 0 {
			return nil, fault.E(fault.Corrupt, "ephemeral", "a presence row is cut")
		}
		p.acted, p.status = int64(acted), string(val[n:])
	}
	if len(r.present) >= maxPersons {
		for u, old := range r.present {
			if old.state == Offline {
				delete(r.present, u)
			}
		}
	}
	r.present[user] = p
	return p, nil
}

func (p *person) find(dev uint64) *device {
	for i := range p.devices {
		if p.devices[i].num == dev {
			return &p.devices[i]
		}
	}
	return nil
}

func (p *person) set(dev uint64, s State, until time.Time) {
	if d := p.find(dev); d != nil {
		d.state, d.until = s, until
		return
	}
	if len(p.devices) >= maxDevices {
		p.devices = slices.Delete(p.devices, 0, 1)
	}
	p.devices = append(p.devices, device{dev, s, until})
}

// settle works out the state that the devices make together, and notes a change.
func (r *Records) settle(user uint32, p *person, now time.Time) {
	s := Offline
	for i := range p.devices {
		s = max(s, p.devices[i].state)
	}
	if s == Online && !p.told && !p.fresh(now) {
		s = Unavailable
	}
	if s == p.state && p.seq != 0 {
		return
	}
	p.state, p.seq = s, r.changed()
	r.lastSeen = p.seq
	if len(r.newUsers) == 0 {
		r.tellAt = now.Add(gather)
	}
	r.newUsers = append(r.newUsers, user)
}

func (p *person) fresh(now time.Time) bool { return now.UnixMilli()-p.acted < idle.Milliseconds() }

// here says whether the user is there now.
func (p *person) here(now time.Time) bool {
	if p.told {
		return p.active
	}
	return p.fresh(now)
}

func (r *Records) expirePresence(now time.Time, next *time.Time) {
	for user, p := range r.present {
		if len(p.devices) == 0 {
			continue
		}
		p.devices = slices.DeleteFunc(p.devices, func(d device) bool { return !d.until.After(now) })
		r.settle(user, p, now)
		for i := range p.devices {
			sooner(next, p.devices[i].until)
		}
		if p.state == Online && !p.told {
			sooner(next, time.UnixMilli(p.acted).Add(idle))
		}
	}
}

// Presence gives a user's presence. Who was never seen is offline.
func (r *Records) Presence(user uint32) (Status, error) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.present[user]
	if p == nil {
		var err error
		if p, err = r.person(user); err != nil {
			return Status{}, err
		}
	}
	return Status{p.state, p.status, p.acted, p.state == Online && p.here(now)}, nil
}

// PresenceSince lists the users whose presence changed after the counter stood
// at seq. From 0 those are all who are not offline.
func (r *Records) PresenceSince(seq uint64) (users []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= r.lastSeen {
		return nil
	}
	for user, p := range r.present {
		if p.seq > seq && (seq > 0 || p.state != Offline) {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}

// AppendStatus appends a presence as GET /presence and the content of m.presence
// show it.
func (r *Records) AppendStatus(dst []byte, s Status) []byte {
	dst = append(dst, '{')
	if s.State == Online {
		dst = append(dst, `"currently_active":`...)
		dst = append(strconv.AppendBool(dst, s.Active), ',')
	}
	if s.Acted != 0 {
		dst = append(dst, `"last_active_ago":`...)
		dst = append(strconv.AppendInt(dst, max(r.now().UnixMilli()-s.Acted, 0), 10), ',')
	}
	dst = append(append(append(dst, `"presence":"`...), s.State.String()...), '"')
	if s.Message != "" {
		dst = cjson.AppendString(append(dst, `,"status_msg":`...), s.Message)
	}
	return append(dst, '}')
}

// AppendPresence appends a user's m.presence event.
func (r *Records) AppendPresence(dst []byte, user uint32) ([]byte, error) {
	s, err := r.Presence(user)
	if err != nil {
		return dst, err
	}
	id, err := r.names.Name(store.Users, user)
	if err != nil {
		return dst, err
	}
	dst = r.AppendStatus(append(dst, `{"content":`...), s)
	dst = cjson.AppendString(append(dst, `,"sender":`...), id)
	return append(dst, `,"type":"m.presence"}`...), nil
}
