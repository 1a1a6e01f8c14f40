package fedapi_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/simnet"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts give into their files")

// TestScripts runs the stories of testdata: a command a line, and behind "> "
// what it gives. The commands:
//
//	hubs N            hubs a, b, ... with a user each
//	room A VERSION    A's user makes a public room
//	join B A          B's user joins it by way of A
//	say A N           A's user says N things
//	topic A TEXT      A's user sets the topic
//	cut A B, heal A B the link between two
//	push A B          A hands B its newest event, as it would in a transaction
//	restart A         in good order
//	last A            waits until the newest thing said is on A, and tells the topic that A sees
//	sync A B ...      waits until all of these have all that was said, and tells
//	                  how each sees the room
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, users: map[string]*simnet.User{}, on: map[string]room.Num{}}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "> ") {
			continue
		}
		out.WriteString(line)
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			for _, l := range s.do(words[0], words[1:]) {
				fmt.Fprintf(&out, "> %s\n", l)
			}
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if out.String() != string(text) {
		t.Errorf("%s gives\n%s", file, out.String())
	}
}

// story is one script on its way.
type story struct {
	t     *testing.T
	n     *simnet.Net
	users map[string]*simnet.User
	on    map[string]room.Num
	id    mxid.RoomID
	said  []mxid.EventID
}

func (s *story) do(cmd string, args []string) (out []string) {
	s.t.Helper()
	user := func(i int) *simnet.User { return s.users[args[i]] }
	switch cmd {
	case "hubs":
		s.n = simnet.NewWith(s.t, len(args), simnet.Options{Quiet: true})
		for i, name := range args {
			s.users[name] = s.n.Hubs[i].User("user" + name)
		}
	case "room":
		body := fmt.Sprintf(`{"preset":"public_chat","room_version":%q}`, args[1])
		s.id = mxid.RoomID(user(0).Want(200, "", "POST", "/_matrix/client/v3/createRoom", body).Str("room_id"))
		num, err := user(0).Hub.Rooms.Find(s.id)
		if err != nil {
			s.t.Fatal(err)
		}
		s.on[args[0]] = num
	case "join":
		s.on[args[0]] = joinBy(s.t, s.n, user(1).Hub, user(0), s.id)
	case "say":
		var n int
		if _, err := fmt.Sscan(args[1], &n); err != nil {
			s.t.Fatal(err)
		}
		for i := range n {
			s.said = append(s.said, say(s.t, user(0), s.on[args[0]], fmt.Sprint(args[0], " ", i)))
		}
	case "topic":
		key := ""
		id, err := user(0).Hub.Rooms.Send(s.on[args[0]], &room.Draft{Type: "m.room.topic", StateKey: &key, Sender: user(0).ID,
			Content: fmt.Appendf(nil, `{"topic":%q}`, args[1])})
		if err != nil {
			return []string{"refused"}
		}
		s.said = append(s.said, id)
	case "cut":
		s.n.Cut(user(0).Hub.Name, user(1).Hub.Name)
	case "heal":
		s.n.Heal(user(0).Hub.Name, user(1).Hub.Name)
	case "push":
		s.push(args[0], args[1])
	case "restart":
		user(0).Hub.Restart()
	case "sync":
		return s.sync(args, s.said)
	case "last":
		for _, l := range s.sync(args, s.said[len(s.said)-1:]) { // how much of the rest is there yet is nobody's promise
			name, rest, _ := strings.Cut(l, ":")
			out = append(out, name+": "+rest[strings.Index(rest, "topic "):])
		}
	default:
		s.t.Fatalf("no such command: %s", cmd)
	}
	return out
}

func (s *story) push(from, to string) {
	h, err := s.users[from].Hub.Rooms.Head(s.on[from])
	if err != nil {
		s.t.Fatal(err)
	}
	ends, _ := h.Extremities()
	for _, id := range ends {
		e, err := s.users[from].Hub.Rooms.Lookup(id)
		if err != nil {
			s.t.Fatal(err)
		}
		send(s.t, s.users[to].Hub, s.users[from].Hub.Name, e.Event)
	}
}

func (s *story) sync(names []string, said []mxid.EventID) (out []string) {
	for _, name := range names {
		hub := s.users[name].Hub
		for i, id := range said {
			until(s.t, fmt.Sprintf("%s has event %d of %d", name, i, len(said)), func() bool { return has(hub, id) })
		}
	}
	for _, name := range names {
		hub := s.users[name].Hub
		h, err := hub.Rooms.Head(s.on[name])
		if err != nil {
			s.t.Fatal(err)
		}
		topic, members := "none", 0
		if e, err := hub.Rooms.StateEvent(h.State, "m.room.topic", ""); err != nil {
			s.t.Fatal(err)
		} else if e != nil {
			topic = string(e.Content)
		}
		members = h.Joined
		messages := 0
		var list []mxid.EventID
		if err := hub.Rooms.Timeline(s.on[name], room.Key{}, room.After(h.Last), false, func(_ room.Key, num room.EventNum) (bool, error) {
			e, err := hub.Rooms.Event(num)
			if err == nil && e.Type == "m.room.message" {
				messages++
			}
			if err == nil {
				if slices.Contains(list, e.ID) {
					s.t.Errorf("%s has %s twice", name, e.ID)
				}
				list = append(list, e.ID)
			}
			return true, err
		}); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s: %d messages, %d joined, topic %s", name, messages, members, topic))
	}
	return out
}
