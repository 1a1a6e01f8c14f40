package federation

import (
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// Who types and who is there is told to servers that listen now, in transactions of
// its own, and to nobody later: what could not be told is forgotten.

// fleeting is what is to be told, and what has to be told again.
type fleeting struct {
	s    *sender
	life string // of this process, in the ids of transactions

	ctx    context.Context // ends with the sender
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu      sync.Mutex
	count   uint64 // of transactions
	pending map[mxid.Server]*notes
	queue   []mxid.Server // with something pending, and not being told
	telling map[mxid.Server]bool
	tellers int
	mute    map[mxid.Server]time.Time // who did not answer, until then
	typing  map[typist]time.Time      // users of ours, and when it was told last
	present map[uint32]time.Time      // the same of those who are not offline
	again   *time.Timer               // nil where there is nothing to tell again
	closed  bool
}

type typist struct{ room, user uint32 }

// notes is what one server is to be told.
type notes struct {
	typing   map[typist]bool
	presence map[uint32]struct{}
}

const (
	maxTellers = 8
	// maxNotes bounds what is pending for one server: of more the rest is not told.
	maxNotes = 512
	// tellTime is how long a server may take to hear it.
	tellTime = 15 * time.Second
	muteTime = time.Minute
	maxMute  = 4096
	// Others forget who types after a minute, who is there after half an hour.
	againEvery     = 30 * time.Second
	typingAgain    = 35 * time.Second
	presentAgain   = 20 * time.Minute
	presentInOneGo = 100 // users in one m.presence
)

func newFleeting(s *sender) *fleeting {
	f := &fleeting{s: s, life: "f" + rand.Text()[:8] + "-", pending: map[mxid.Server]*notes{}, telling: map[mxid.Server]bool{},
		mute: map[mxid.Server]time.Time{}, typing: map[typist]time.Time{}, present: map[uint32]time.Time{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func (f *fleeting) close() {
	f.mu.Lock()
	f.closed = true
	if f.again != nil {
		f.again.Stop()
	}
	f.mu.Unlock()
	f.cancel()
	f.ended.Wait()
}

// Moved says in which rooms somebody began or ceased to type, and of whom something
// else is so than was. What of that is of this hub's users is told to others.
func (f *Federation) Moved(rooms, users []uint32) {
	if f.sender == nil {
		return
	}
	fl := f.sender.fleeting
	for _, num := range rooms {
		fl.typed(num)
	}
	now := time.Now()
	for _, user := range users {
		if own, err := f.sender.own(user); err != nil || !own {
			continue
		}
		s, err := f.Ephemeral.Presence(user)
		if err != nil {
			continue
		}
		fl.mu.Lock()
		if delete(fl.present, user); s.State != 0 {
			fl.present[user] = now
		}
		fl.mu.Unlock()
		fl.presence(user)
	}
	fl.begin()
}

// typed compares who types in a room with what was told.
func (f *fleeting) typed(num uint32) {
	now := time.Now()
	var news []typist
	is := map[uint32]bool{}
	for _, user := range f.s.Ephemeral.Typists(num) {
		if own, err := f.s.own(user); err == nil && own {
			is[user] = true
		}
	}
	f.mu.Lock()
	for user := range is {
		t := typist{num, user}
		if _, told := f.typing[t]; !told {
			f.typing[t] = now
			news = append(news, t)
		}
	}
	for t := range f.typing {
		if t.room == num && !is[t.user] {
			delete(f.typing, t)
			news = append(news, t)
		}
	}
	f.mu.Unlock()
	for _, t := range news {
		f.typist(t, is[t.user])
	}
}

// typist has the servers of a room told of one who types there.
func (f *fleeting) typist(t typist, typing bool) {
	// A room that cannot be read has nobody told.
	_ = f.s.Rooms.Servers(room.Num(t.room), func(server mxid.Server, _ stream.Pos) bool {
		f.add(server, func(n *notes) { n.typing[t] = typing })
		return true
	})
}

// presence has the servers told that share a room with a user.
func (f *fleeting) presence(user uint32) {
	to := found{map[mxid.Server]struct{}{}, map[room.Num]struct{}{}, map[uint32]struct{}{}}
	_ = f.s.around(&to, user) // as above
	for server := range to.servers {
		f.add(server, func(n *notes) { n.presence[user] = struct{}{} })
	}
}

func (f *fleeting) add(server mxid.Server, put func(n *notes)) {
	if !f.s.Allowed(server) || !f.s.awake(server) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if until, is := f.mute[server]; is {
		if time.Now().Before(until) {
			return
		}
		delete(f.mute, server)
	}
	n := f.pending[server]
	if n == nil {
		n = &notes{map[typist]bool{}, map[uint32]struct{}{}}
		f.pending[server] = n
		if !f.telling[server] {
			f.queue = append(f.queue, server)
		}
	}
	if len(n.typing)+len(n.presence) < maxNotes {
		put(n)
	}
}

// begin has what is pending told, and arms the timer.
func (f *fleeting) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for f.tellers < maxTellers && f.tellers < len(f.queue) {
		f.tellers++
		f.ended.Go(f.tell)
	}
	if f.again == nil && len(f.typing)+len(f.present) > 0 {
		f.again = time.AfterFunc(againEvery, f.repeat)
	}
}

// repeat tells what would be forgotten elsewhere.
func (f *fleeting) repeat() {
	now := time.Now()
	var typing []typist
	var present []uint32
	f.mu.Lock()
	f.again = nil
	for t, told := range f.typing {
		if now.Sub(told) >= typingAgain {
			f.typing[t] = now
			typing = append(typing, t)
		}
	}
	for user, told := range f.present {
		if now.Sub(told) >= presentAgain {
			f.present[user] = now
			present = append(present, user)
		}
	}
	f.mu.Unlock()
	for _, t := range typing {
		f.typist(t, true)
	}
	for _, user := range present {
		f.presence(user)
	}
	f.begin()
}

// tell works through the queue.
func (f *fleeting) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 && !f.closed {
		server := f.queue[0]
		f.queue = f.queue[1:]
		n := f.pending[server]
		delete(f.pending, server)
		f.telling[server] = true
		f.count++
		id := f.life + strconv.FormatUint(f.count, 36)
		f.mu.Unlock()
		err := f.send(server, id, n)
		f.mu.Lock()
		delete(f.telling, server)
		if err != nil && len(f.mute) < maxMute {
			f.mute[server] = time.Now().Add(muteTime)
			delete(f.pending, server)
		}
		if f.pending[server] != nil {
			f.queue = append(f.queue, server)
		}
	}
	f.tellers--
}

func (f *fleeting) send(server mxid.Server, id string, n *notes) error {
	sl := slice{id: id}
	for t, typing := range n.typing {
		if sl.numEDUs == maxEDUs-maxNotes/presentInOneGo-1 {
			break
		}
		if err := f.addTyping(&sl, t, typing); err != nil {
			return err
		}
	}
	var list []byte
	count := 0
	flush := func() {
		if count > 0 {
			whole := list
			sl.addEDU("m.presence", func(dst []byte) []byte { return append(append(append(dst, `{"push":[`...), whole...), ']', '}') })
		}
		list, count = nil, 0
	}
	for user := range n.presence {
		var err error
		if list, err = f.appendPresence(list, count > 0, user); err != nil {
			return err
		}
		if count++; count == presentInOneGo {
			flush()
		}
	}
	flush()
	if sl.empty() {
		return nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, tellTime)
	defer cancel()
	return f.s.send(ctx, server, &sl)
}

// Spec: server-server, typing notifications.
func (f *fleeting) addTyping(sl *slice, t typist, typing bool) error {
	id, err := f.s.Rooms.RoomID(room.Num(t.room))
	if err != nil {
		return err
	}
	user, err := f.s.Rooms.UserID(t.user)
	if err != nil {
		return err
	}
	sl.addEDU("m.typing", func(dst []byte) []byte {
		dst = cjson.AppendString(append(dst, `{"room_id":`...), id)
		dst = strconv.AppendBool(append(dst, `,"typing":`...), typing)
		return append(cjson.AppendString(append(dst, `,"user_id":`...), user), '}')
	})
	return nil
}

// appendPresence appends what is so of a user now. Spec: server-server, presence.
func (f *fleeting) appendPresence(dst []byte, behind bool, user uint32) ([]byte, error) {
	s, err := f.s.Ephemeral.Presence(user)
	if err != nil {
		return dst, err
	}
	id, err := f.s.Rooms.UserID(user)
	if err != nil {
		return dst, err
	}
	if behind {
		dst = append(dst, ',')
	}
	at := len(dst)
	dst = f.s.Ephemeral.AppendStatus(dst, s)
	dst = append(dst[:len(dst)-1], `,"user_id":`...)
	dst = append(cjson.AppendString(dst, id), '}')
	if s.Acted == 0 { // the specification asks for it
		tail := append([]byte(`{"last_active_ago":0,`), dst[at+1:]...)
		dst = append(dst[:at], tail...)
	}
	return dst, nil
}
