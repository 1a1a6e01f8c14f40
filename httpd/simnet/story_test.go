package simnet

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// A story is a drawn script: people of several hubs talk, change and fight over
// one room while links are cut, requests get lost, clocks differ, hubs restart
// and lose their power. In the end all links are there and everybody says
// something; then all hubs in the room have the same state.
type story struct {
	t    *testing.T
	n    *Net
	rng  *rand.Rand
	room mxid.RoomID
	path string // of the room in the client-server API
	all  []*User
	did  map[string]int // what was done how often, for the reader of a log
	said map[string]bool
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// HEARTH_SIM is how many times longer than usual the stories are; HEARTH_SEED
// draws one again.
func TestStory(t *testing.T) {
	seed, longer := setting(t, "HEARTH_SEED", rand.Uint64()), setting(t, "HEARTH_SIM", 1)
	for i := range longer {
		// Time is the bubble's: it goes on where all wait, so nobody does.
		synctest.Test(t, func(t *testing.T) { tell(t, seed+i, 4, 150) })
	}
}

func tell(t *testing.T, seed uint64, hubs, steps int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	skew := make([]time.Duration, hubs)
	for i := range skew {
		skew[i] = time.Duration(rng.IntN(7200)-3600) * time.Second
	}
	n := NewWith(t, hubs, Options{Seed: seed, Now: func(i int) time.Time { return time.Now().Add(skew[i]) }, Quiet: true})
	s := &story{t: t, n: n, rng: rng, did: map[string]int{}, said: map[string]bool{}}
	for i, h := range n.Hubs {
		for j := range 2 {
			s.all = append(s.all, h.User(fmt.Sprintf("u%d%d", i, j)))
		}
	}
	versions := event.Versions()
	version := versions[rng.IntN(len(versions))]
	made := s.all[0].Want(200, "", "POST", "/_matrix/client/v3/createRoom", fmt.Sprintf(`{"preset":"public_chat","room_version":%q}`, version))
	s.room = mxid.RoomID(made.Str("room_id"))
	s.path = "/_matrix/client/v3/rooms/" + strings.ReplaceAll(string(s.room), "!", "%21")
	s.levels(s.all[0], version)
	for _, u := range s.all[1:] {
		if r := s.join(u); r.Status != 200 {
			t.Fatalf("seed %d, version %s: %s cannot join: %+v", seed, version, u.ID, r)
		}
	}
	for range steps {
		s.step()
	}
	s.end()
	t.Logf("seed %d, version %s: %v", seed, version, s.did)
}

// levels lets everybody do much, so that they get into each other's way.
func (s *story) levels(u *User, version string) {
	levels := map[string]any{"users_default": 50, "events_default": 0, "state_default": 50, "ban": 50, "kick": 50, "invite": 0, "redact": 50}
	if !event.LookupVersion(version).Creators {
		levels["users"] = map[string]int{string(u.ID): 100}
	}
	body, err := json.Marshal(levels)
	if err != nil {
		s.t.Fatal(err)
	}
	u.Want(200, "", "PUT", s.path+"/state/m.room.power_levels/", string(body))
}

func (s *story) join(u *User) Reply {
	via := ""
	for _, h := range s.n.Hubs {
		via += "&server_name=" + string(h.Name) + "&via=" + string(h.Name)
	}
	return u.Ask("POST", "/_matrix/client/v3/join/"+strings.ReplaceAll(string(s.room), "!", "%21")+"?"+via[1:], "{}")
}

// do asks, and refuses answers that are no answers.
func (s *story) do(what string, u *User, method, path, body string) Reply {
	r := u.Ask(method, path, body)
	s.did[what]++
	if r.Status >= 500 && r.Status != 502 && r.Status != 504 {
		s.t.Errorf("seed %d: %s by %s: %d %s", s.n.Seed, what, u.ID, r.Status, r.Body)
	}
	return r
}

func (s *story) step() {
	u, other := s.all[s.rng.IntN(len(s.all))], s.all[s.rng.IntN(len(s.all))]
	a, b := s.n.Hubs[s.rng.IntN(len(s.n.Hubs))], s.n.Hubs[s.rng.IntN(len(s.n.Hubs))]
	x := s.rng.IntN(1 << 20)
	member := func(how string) {
		s.do(how, u, "POST", s.path+"/"+how, fmt.Sprintf(`{"user_id":%q}`, other.ID))
	}
	switch k := s.rng.IntN(100); {
	case k < 35:
		s.do("message", u, "PUT", fmt.Sprintf("%s/send/m.room.message/%d", s.path, x), fmt.Sprintf(`{"msgtype":"m.text","body":"%d"}`, x))
	case k < 50:
		s.do("topic", u, "PUT", s.path+"/state/m.room.topic/", fmt.Sprintf(`{"topic":"%d"}`, x))
	case k < 55:
		s.do("own state", u, "PUT", fmt.Sprintf("%s/state/sim.state/%d", s.path, x%5), fmt.Sprintf(`{"n":%d}`, x))
	case k < 58:
		member("kick")
	case k < 61:
		member("ban")
	case k < 66:
		member("unban")
	case k < 69:
		member("invite")
	case k < 72:
		s.do("leave", u, "POST", s.path+"/leave", "{}")
	case k < 80:
		s.join(u)
		s.did["join"]++
	case k < 83 && a != b:
		s.n.Cut(a.Name, b.Name)
		s.did["cut"]++
	case k < 88:
		s.n.Heal(a.Name, b.Name)
		s.did["heal"]++
	case k < 90:
		s.n.Lose(float64(s.rng.IntN(4)) / 10)
		s.did["loss"]++
	case k < 92:
		a.Restart()
		s.did["restart"]++
	case k < 93:
		a.PowerCut()
		s.did["power cut"]++
	default:
		time.Sleep(time.Duration(s.rng.IntN(30)) * time.Second) // the bubble's time
		s.did["wait"]++
	}
}

// end heals everything, has the creator call everybody back, and waits until all
// hubs agree.
func (s *story) end() {
	s.n.Lose(0)
	for _, a := range s.n.Hubs {
		for _, b := range s.n.Hubs {
			s.n.Heal(a.Name, b.Name)
		}
	}
	var states []string
	for round := range 40 {
		// The creator cannot be kept out and lets everybody in again.
		s.join(s.all[0])
		for _, u := range s.all[1:] {
			if s.in(u) {
				continue
			}
			s.all[0].Ask("POST", s.path+"/unban", fmt.Sprintf(`{"user_id":%q}`, u.ID))
			s.join(u)
		}
		// Each says something: what was lost on the way is named by what follows it.
		for _, u := range s.all {
			u.Ask("PUT", fmt.Sprintf("%s/send/m.room.message/end%d", s.path, round), `{"msgtype":"m.text","body":"end"}`)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if states = s.states(); len(states) == len(s.n.Hubs) && len(slices.Compact(slices.Clone(states))) == 1 {
			s.did["rounds to the end"] = round + 1
			return
		}
	}
	s.t.Errorf("seed %d: %d of %d hubs are in the room and do not agree:", s.n.Seed, len(states), len(s.n.Hubs))
	for _, u := range s.all {
		if !s.in(u) {
			s.t.Errorf("%s is not in the room: %+v", u.ID, s.join(u))
		}
	}
	for i, state := range states {
		for line := range strings.Lines(state) {
			for j, other := range states {
				if !strings.Contains(other+"\n", line) {
					s.t.Errorf("%d has, and %d has not: %s", i, j, line)
				}
			}
		}
	}
}

// states is the room's state as each hub has it that has somebody in it.
func (s *story) states() (all []string) {
	for i := range s.n.Hubs {
		for _, u := range s.all[2*i : 2*i+2] {
			r := u.Ask("GET", s.path+"/state", "")
			if r.Status != 200 || !s.in(u) {
				continue
			}
			var events []struct {
				Type     string `json:"type"`
				StateKey string `json:"state_key"`
				ID       string `json:"event_id"`
			}
			if err := json.Unmarshal([]byte(r.Body), &events); err != nil {
				s.t.Fatal(err)
			}
			lines := make([]string, 0, len(events))
			for _, e := range events {
				lines = append(lines, e.Type+" "+e.StateKey+" "+e.ID)
			}
			slices.Sort(lines)
			all = append(all, strings.Join(lines, "\n"))
			break
		}
	}
	return all
}

// in says whether a user's own hub has them in the room.
func (s *story) in(u *User) bool {
	num, err := u.Hub.Rooms.Find(s.room)
	if err != nil {
		return false
	}
	m, err := u.Hub.Rooms.MemberOf(num, u.Num)
	return err == nil && m.Membership == room.Join
}
