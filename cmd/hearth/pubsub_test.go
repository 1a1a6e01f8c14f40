package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// stage is a server that gives fixed answers and keeps what was sent to it.
type stage struct {
	url     string
	answers map[string]string // method and path (one * for the transaction id) to status and body
	sent    []string          // path and body of each PUT
	asked   []string
	member  bool
	synced  bool
}

var transaction = regexp.MustCompile(`/[0-9a-f]{18}-[0-9]+$`)

func newStage(t *testing.T) *stage {
	s := &stage{member: true, answers: map[string]string{
		"GET /joined_rooms":                      `200 {"joined_rooms":["!r:h"]}`,
		"POST /login":                            `200 {"access_token":"fresh"}`,
		"POST /logout":                           `200 {}`,
		"GET /directory/room/#lights:h":          `200 {"room_id":"!r:h"}`,
		"POST /join/#lights:h":                   `200 {"room_id":"!r:h"}`,
		"PUT /rooms/!r:h/send/m.room.message/*":  `200 {"event_id":"$e"}`,
		"PUT /rooms/!r:h/send/org.example.r/*":   `200 {"event_id":"$e"}`,
		"PUT /rooms/!r:h/state/org.example.r/k/": `200 {"event_id":"$e"}`,
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := transaction.ReplaceAllString(strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3"), "/*")
	body, _ := io.ReadAll(r.Body)
	s.asked = append(s.asked, r.Method+" "+path)
	if r.Method == http.MethodPut {
		s.sent = append(s.sent, string(body))
	}
	if path == "/sync" {
		s.sync(w, r)
		return
	}
	answer, ok := s.answers[r.Method+" "+path]
	if r.Method == http.MethodPut && !s.member {
		answer, ok = `403 {"errcode":"M_FORBIDDEN","error":"not in the room"}`, true
	}
	if strings.HasPrefix(path, "/join/") {
		s.member = true
	}
	if !ok {
		answer = `404 {"errcode":"M_NOT_FOUND","error":"nothing here"}`
	}
	if answer[0] == '2' {
		w.WriteHeader(200)
	} else {
		w.WriteHeader(map[string]int{"400": 400, "401": 401, "403": 403, "404": 404, "413": 413}[answer[:3]])
	}
	io.WriteString(w, answer[4:])
}

// An alias that nobody has is made with --create, and only with it.
func TestPubCreates(t *testing.T) {
	s := newStage(t)
	s.answers["GET /directory/room/#new:h"] = `404 {"errcode":"M_NOT_FOUND","error":"no such alias"}`
	s.answers["POST /createRoom"] = `200 {"room_id":"!r:h"}`
	pub := func(more ...string) (int, string) {
		t.Helper()
		var out, errs bytes.Buffer
		args := append([]string{"pub", "--server", s.url, "--token", "t", "-r", "#new:h", "-m", "x"}, more...)
		code := run(args, streams{in: strings.NewReader(""), out: &out, err: &errs, env: func(string) string { return "" }})
		return code, errs.String()
	}
	if code, said := pub(); code != exitRoom {
		t.Fatalf("without --create: %d %s", code, said)
	}
	if code, said := pub("--create"); code != exitDone || len(s.sent) != 1 {
		t.Fatalf("with --create: %d %s, %v", code, said, s.asked)
	}
}

const three = `
{"event_id":"$1","type":"m.room.message","sender":"@a:h","content":{"body":"on"}},
{"event_id":"$2","type":"m.room.topic","state_key":"","sender":"@a:h","content":{"topic":"x"}},
{"event_id":"$3","type":"org.example.r","sender":"@a:h","content":{"celsius": 21, "name": "a\u0007"}},
{"event_id":"$4","type":"m.room.message","sender":"@a:h","content":{"body":"two\nlines\u001b[2J"}}`

func (s *stage) sync(w http.ResponseWriter, r *http.Request) {
	if s.synced {
		<-r.Context().Done()
		return
	}
	events := ""
	if r.URL.Query().Has("since") {
		s.synced, events = true, three
	}
	io.WriteString(w, `{"next_batch":"n","rooms":{"join":{"!r:h":{"timeline":{"events":[`+events+`]}}}}}`)
}

type result struct {
	code     int
	out, err string
}

func ask(command func([]string, streams) int, in string, env map[string]string, args ...string) result {
	var out, errs bytes.Buffer
	code := command(args, streams{
		in: strings.NewReader(in), out: &out, err: &errs, env: func(k string) string { return env[k] },
	})
	return result{code, out.String(), errs.String()}
}

func TestPub(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(s string) string { return `{"msgtype":"m.text","body":` + s + `}` }
	tests := []struct {
		name string
		in   string
		env  map[string]string
		args []string
		code int
		sent []string
		out  string
	}{
		{name: "a message", args: []string{"--token", "t", "-r", "!r:h", "-m", "on"}, sent: []string{text(`"on"`)}},
		{name: "an empty message", args: []string{"--token", "t", "-r", "!r:h", "-m", ""}, sent: []string{text(`""`)}},
		{name: "lines", args: []string{"--token", "t", "-r", "!r:h", "--ids"}, in: "one\r\n\ntwo \"q\"",
			sent: []string{text(`"one"`), text(`"two \"q\""`)}, out: "$e\n$e\n"},
		{name: "by alias and password", args: []string{"-u", "a", "--password-file", secret, "-r", "#lights:h", "-m", "on"},
			sent: []string{text(`"on"`)}},
		{name: "from the environment", args: []string{"-r", "!r:h", "-m", "on"},
			env: map[string]string{"HEARTH_TOKEN_FILE": secret}, sent: []string{text(`"on"`)}},
		{name: "other type", args: []string{"--token", "t", "-r", "!r:h", "-t", "org.example.r", "-m", "on"},
			sent: []string{`{"body":"on"}`}},
		{name: "state", args: []string{"--token", "t", "-r", "!r:h", "-t", "org.example.r", "--state-key", "k/", "-m", "on"},
			sent: []string{`{"body":"on"}`}},
		{name: "json", args: []string{"--token", "t", "-r", "!r:h", "--json"}, in: `{"a": 1}` + "\n" + `{"b":{}}` + "\n",
			sent: []string{`{"a":1}`, `{"b":{}}`}},
		{name: "json that is none", args: []string{"--token", "t", "-r", "!r:h", "--json"}, in: "{}\n[1]\n{}\n",
			sent: []string{`{}`}, code: exitRefused},
		{name: "json null", args: []string{"--token", "t", "-r", "!r:h", "--json", "-m", "null"}, code: exitRefused},
		{name: "a line too long", args: []string{"--token", "t", "-r", "!r:h"}, in: strings.Repeat("x", maxLine+1),
			code: exitRefused},
		{name: "unknown alias", args: []string{"--token", "t", "-r", "#none:h", "-m", "on"}, code: exitRoom},
		{name: "no room", args: []string{"--token", "t", "-m", "on"}, code: exitUsage},
		{name: "a room that is none", args: []string{"--token", "t", "-r", "lights", "-m", "on"}, code: exitUsage},
		{name: "nobody", args: []string{"-r", "!r:h", "-m", "on"}, code: exitUsage},
		{name: "two kinds of login", args: []string{"--token", "t", "-u", "a", "-r", "!r:h", "-m", "on"}, code: exitUsage},
		{name: "a flag that is none", args: []string{"--tokn", "t"}, code: exitUsage},
		{name: "no such file", args: []string{"--token-file", secret + "x", "-r", "!r:h", "-m", "on"}, code: exitLocal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			got := ask(pub, test.in, test.env, append(test.args, "--server", s.url)...)
			if got.code != test.code || got.out != test.out || strings.Join(s.sent, "\n") != strings.Join(test.sent, "\n") {
				t.Errorf("code %d, sent %q, printed %q and %q", got.code, s.sent, got.out, got.err)
			}
			if strings.Contains(got.err, "from-a-file") || (got.code == 0) != (got.err == "") {
				t.Errorf("standard error: %q", got.err)
			}
		})
	}
}

func TestPubJoinsWhenItMust(t *testing.T) {
	s := newStage(t)
	s.member = false
	s.answers["GET /joined_rooms"] = `200 {"joined_rooms":[]}`
	got := ask(pub, "a\nb\n", nil, "--token", "t", "-r", "#lights:h", "--server", s.url)
	want := `GET /directory/room/#lights:h
PUT /rooms/!r:h/send/m.room.message/*
GET /joined_rooms
POST /join/#lights:h
PUT /rooms/!r:h/send/m.room.message/*
PUT /rooms/!r:h/send/m.room.message/*`
	if asked := strings.Join(s.asked, "\n"); got.code != exitDone || asked != want {
		t.Errorf("code %d, %s\nasked %s", got.code, got.err, asked)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, key, answer string
		code              int
	}{
		{"token", "PUT /rooms/!r:h/send/m.room.message/*", `401 {"errcode":"M_UNKNOWN_TOKEN"}`, exitLogin},
		{"too large", "PUT /rooms/!r:h/send/m.room.message/*", `413 {"errcode":"M_TOO_LARGE"}`, exitRefused},
		{"no right to send", "PUT /rooms/!r:h/send/m.room.message/*", `403 {"errcode":"M_FORBIDDEN"}`, exitRefused},
		{"password", "POST /login", `403 {"errcode":"M_FORBIDDEN","error":"wrong"}`, exitLogin},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			s.answers[test.key] = test.answer
			who := []string{"--token", "hush"}
			if test.name == "password" {
				who = []string{"--user", "a", "--password", "hush"}
			}
			got := ask(pub, "", nil, append(who, "-r", "!r:h", "-m", "on", "--server", s.url)...)
			if got.code != test.code || strings.Contains(got.err, "hush") {
				t.Errorf("code %d, %q", got.code, got.err)
			}
		})
	}
	t.Run("closed room", func(t *testing.T) {
		s := newStage(t)
		s.member = false
		s.answers["GET /joined_rooms"] = `200 {"joined_rooms":[]}`
		s.answers["POST /join/!r:h"] = `403 {"errcode":"M_FORBIDDEN"}`
		for name, command := range map[string]func([]string, streams) int{"pub": pub, "sub": sub} {
			s.member = false
			if got := ask(command, "x\n", nil, "--token", "t", "-r", "!r:h", "--server", s.url); got.code != exitRoom {
				t.Errorf("%s: code %d, %q", name, got.code, got.err)
			}
		}
	})
}

func TestTimeout(t *testing.T) {
	at := []string{"--token", "t", "-r", "!r:h", "--server", "http://127.0.0.1:1", "--timeout", "1ms"}
	if got := ask(pub, "", nil, append(at, "-m", "on")...); got.code != exitTimeout {
		t.Errorf("pub: code %d, %q", got.code, got.err)
	}
	if got := ask(sub, "", nil, append(at, "-n", "1")...); got.code != exitTimeout {
		t.Errorf("sub: code %d, %q", got.code, got.err)
	}
}

func TestSub(t *testing.T) {
	tests := []struct {
		name string
		args []string
		out  string
	}{
		{"texts", []string{"-n", "3"}, "on\n{\"celsius\":21,\"name\":\"a\\u0007\"}\ntwo\\nlines\\u001b[2J\n"},
		{"verbose", []string{"-v", "-n", "1"}, "@a:h m.room.message on\n"},
		{"contents", []string{"--json", "-n", "2"}, `{"body":"on"}` + "\n" + `{"celsius":21,"name":"a\u0007"}` + "\n"},
		{"state when asked for", []string{"-t", "*", "--json", "-n", "2"}, `{"body":"on"}` + "\n" + `{"topic":"x"}` + "\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			got := ask(sub, "", nil, append(test.args, "--token", "t", "-r", "#lights:h", "--server", s.url)...)
			if got.code != exitDone || got.out != test.out || got.err != "hearth sub: following !r:h\n" {
				t.Errorf("code %d\nprinted %q\nand %q", got.code, got.out, got.err)
			}
		})
	}
	t.Run("events", func(t *testing.T) {
		s := newStage(t)
		got := ask(sub, "", nil, "--event", "-q", "-n", "1", "--token", "t", "-r", "!r:h", "--server", s.url)
		var e struct {
			ID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(got.out), &e); err != nil || e.ID != "$1" || got.err != "" {
			t.Errorf("%q, %q", got.out, got.err)
		}
	})
}

// TestHelp holds the manual pages to the flags that there are.
func TestHelp(t *testing.T) {
	flags := regexp.MustCompile(`(?m)^ {2,6}(?:-(\w), )?(?: {0,4})--([a-z-]+)`)
	for name, command := range map[string]func([]string, streams) int{"pub": pub, "sub": sub} {
		got := ask(command, "", nil, "--help")
		if got.code != exitDone || got.err != "" {
			t.Fatalf("%s: code %d, %q", name, got.code, got.err)
		}
		for _, found := range flags.FindAllStringSubmatch(got.out, -1) {
			for _, f := range found[1:] {
				if f == "" {
					continue
				}
				bad := ask(command, "", nil, "-"+f+"=x", "--no-such-flag")
				if strings.Contains(bad.err, "not defined: -"+f) {
					t.Errorf("%s: the manual page has -%s, the program has not", name, f)
				}
			}
		}
	}
	r, fs := newReach("any", streams{})
	_ = r
	fs.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(reachHelp, "-"+f.Name+",") && !strings.Contains(reachHelp, "--"+f.Name+" ") {
			t.Errorf("-%s is not in the manual page", f.Name)
		}
	})
}
