package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/thing"
	"hearth/engine/topic"
	"hearth/firmware/console"
)

const thingHelp = `hearth thing add NAME [--allow FILTER]... [--json] [--qr]
hearth thing list [--json]
hearth thing show NAME [--json]
hearth thing approve NAME [--allow FILTER]... [--json] [--qr]
hearth thing cert NAME [--json]
hearth thing revoke NAME
hearth thing sessions [--json]

Manages the things of a hub on this machine: what speaks MQTT. Each is a Matrix user, @NAME:server, with one device and
a secret that the hub makes. Its own topics are NAME and all below it.

  add      makes a thing and prints its user name and secret, which the hub does not show again, and where the hub is
  list     prints one thing a line, and those that knock and wait to be approved
  show     prints what is known of one thing
  approve  lets in a thing that knocks, with what it knocked with where that will do
  cert     prints a TLS client certificate and its key, for a thing that shows one in place of a secret
  revoke   ends a thing's credentials and sessions; for one that knocks: it is not told of again
  sessions prints who is connected, and what waits for whom, the heaviest first: name, client id, and what a session
           that is not taken from costs the hub

      --allow FILTER       topics beside its own; read:FILTER or write:FILTER for one of the two
      --json               print JSON
      --qr                 print a QR code too, to claim the thing with
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Examples:
  hearth thing add porch --allow 'read:home/+/light'
  mosquitto_pub -h hub.local -u porch -P SECRET -q 1 -t porch/temperature -m 21.5
  hearth pub --mqtt mqtt://porch:SECRET@hub.local:1883 --topic porch/temperature -m 21.5
  hearth thing cert porch > porch.pem
`

// thingReport is a thing as the commands tell of it.
type thingReport struct {
	Name     string       `json:"name"`
	ID       mxid.UserID  `json:"user_id"`
	Username string       `json:"username"`
	Password string       `json:"password,omitempty"` // told once
	URL      string       `json:"url,omitempty"`      // for the QR code: the first address, with name and password
	Brokers  []string     `json:"brokers,omitempty"`  // the addresses of the hub for things
	Made     time.Time    `json:"made"`
	Revoked  bool         `json:"revoked"`
	Topics   []string     `json:"topics"` // its own, and what it was allowed besides
	Certs    []thing.Cert `json:"certificates,omitempty"`
	PEM      string       `json:"pem,omitempty"`
}

// doThing carries out an order about things.
func (a admin) doThing(o order) (report, error) {
	switch o.Do {
	case "thing-list":
		r := report{Knocks: a.engine.Things.Knocks()}
		for _, one := range a.engine.Things.List() {
			r.Things = append(r.Things, a.describe(one))
		}
		return r, nil
	case "thing-add", "thing-approve":
		make := a.engine.AddThing
		if o.Do == "thing-approve" {
			make = a.engine.ApproveThing
		}
		n, err := make(o.Name, o.Allow)
		if err != nil {
			return report{}, err
		}
		return a.shown(n.Name, func(t *thingReport) { t.Password = n.Secret })
	case "thing-show":
		return a.shown(o.Name, nil)
	case "thing-sessions":
		return report{Loads: a.engine.Sessions(mostSessions)}, nil
	case "thing-cert":
		text, err := a.engine.CertifyThing(o.Name)
		if err != nil {
			return report{}, err
		}
		return a.shown(o.Name, func(t *thingReport) { t.PEM = string(text) })
	case "thing-mappings":
		return a.mappings(), nil
	case "thing-revoke":
		return report{}, a.engine.RevokeThing(o.Name)
	}
	return report{}, fault.E(fault.Unrecognised, "hearth.thing", "the hub does not know the order %q: it is of another version", o.Do)
}

// shown describes one thing with what edit adds.
func (a admin) shown(name string, edit func(t *thingReport)) (report, error) {
	one, err := a.engine.Things.Find(name)
	if err != nil {
		return report{}, err
	}
	t := a.describe(one)
	if edit != nil {
		edit(&t)
	}
	if t.Brokers = a.things(); t.Password != "" && len(t.Brokers) > 0 {
		u, err := url.Parse(t.Brokers[0])
		if err != nil {
			return report{}, err
		}
		u.User = url.UserPassword(t.Username, t.Password)
		t.URL = u.String()
	}
	return report{Things: []thingReport{t}}, nil
}

func (a admin) describe(one *thing.Thing) thingReport {
	t := thingReport{
		Name: one.Name, Username: one.Name, ID: a.engine.Accounts.ID(one.Name), Made: one.Made, Revoked: one.Revoked,
		Topics: []string{one.Name + "/#"}, Certs: one.Certs,
	}
	for _, g := range one.Allow {
		if !topic.Covers(t.Topics[0], g.Filter) {
			t.Topics = append(t.Topics, g.String())
		}
	}
	return t
}

// thingFlags are the flags behind the word of what to do.
type thingFlags struct {
	hubFlags
	allow    []thing.Grant
	json, qr bool
	name     string
}

// things carries out one command about things.
func things(args []string, s streams) int {
	return told("thing", thingHelp, s, func() error {
		do, f, err := parseThing(args)
		if err != nil {
			return err
		}
		r, err := f.ask(s, order{Do: "thing-" + do, Name: f.name, Allow: f.allow})
		if err != nil {
			return err
		}
		return f.print(do, r, s.out)
	})
}

// parseThing reads flags before and after the name.
func parseThing(args []string) (do string, f *thingFlags, err error) {
	f = &thingFlags{}
	fs := f.flags()
	fs.BoolVar(&f.json, "json", false, "")
	fs.BoolVar(&f.qr, "qr", false, "")
	fs.Func("allow", "", func(text string) error {
		g, err := thing.ParseGrant(text)
		f.allow = append(f.allow, g)
		if err != nil {
			return errors.New(plainText(err))
		}
		return nil
	})
	words, err := wordsOf(fs, args)
	if err != nil {
		return "", nil, err
	}
	if len(words) == 0 {
		return "", nil, usage("what shall be done? add, list, show, approve, cert, revoke or sessions")
	}
	do = words[0]
	want, known := map[string]int{"add": 1, "list": 0, "show": 1, "approve": 1, "cert": 1, "revoke": 1, "sessions": 0}[do]
	makes := do == "add" || do == "approve"
	switch {
	case !known:
		return "", nil, usage("there is no %q; add, list, show, approve, cert, revoke and sessions there are", do)
	case len(words)-1 < want:
		return "", nil, usage("which thing? give a name behind %s", do)
	case len(words)-1 > want:
		return "", nil, usage("unexpected argument %q", words[want+1])
	case !makes && len(f.allow) > 0:
		return "", nil, usage("--allow goes with add and approve only")
	case !makes && f.qr:
		return "", nil, usage("--qr goes with add and approve only")
	}
	if want == 1 {
		f.name = words[1]
	}
	return do, f, nil
}

// print tells what became of the order.
func (f *thingFlags) print(do string, r report, w io.Writer) error {
	var one thingReport
	if len(r.Things) > 0 {
		one = r.Things[0]
	}
	if f.json {
		return f.printJSON(do, r, w)
	}
	switch do {
	case "list":
		printThings(r, w)
	case "sessions":
		printSessions(r.Loads, w)
	case "show":
		fmt.Fprintf(w, "%s\n  since   %s\n  topics  %s\n", one.ID, one.Made.Format("2006-01-02 15:04"), strings.Join(one.Topics, "  "))
		for _, c := range one.Certs {
			fmt.Fprintf(w, "  certificate %s of %s\n", c.Serial, c.Made.Format("2006-01-02 15:04"))
		}
		if one.Revoked {
			fmt.Fprintln(w, "  revoked")
		}
	case "add", "approve":
		fmt.Fprintf(w, "%s is a thing of this hub now.\n  username  %s\n", one.ID, one.Username)
		if one.Password == "" {
			fmt.Fprintln(w, "  password  the one that it knocked with")
		} else {
			fmt.Fprintf(w, "  password  %s\n  It is not shown again.\n", one.Password)
		}
		for _, at := range one.Brokers {
			fmt.Fprintf(w, "  broker    %s\n", at)
		}
		if one.URL != "" {
			fmt.Fprintf(w, "  in one    %s\n", one.URL)
		}
		if len(one.Brokers) == 0 {
			fmt.Fprintln(w, "  The hub has no door for things, or none is set in the settings that this command reads: see mqtt_listen.")
		}
	case "cert":
		io.WriteString(w, one.PEM)
	case "revoke":
		fmt.Fprintf(w, "%s is revoked.\n", f.name)
	}
	switch {
	case f.qr && one.URL != "":
		return console.QR(w, one.URL)
	case f.qr && one.Password != "":
		return errors.New("no QR code: there is no address for it to tell")
	case f.qr:
		return errors.New("no QR code: it would tell the password, and the hub does not know that of a thing that knocked")
	}
	return nil
}

func (f *thingFlags) printJSON(do string, r report, w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	switch do {
	case "list":
		if r.Things == nil {
			r.Things = []thingReport{}
		}
		return e.Encode(struct {
			Things []thingReport  `json:"things"`
			Knocks []*thing.Knock `json:"knocking"`
		}{r.Things, r.Knocks})
	case "sessions":
		return printLoads(r.Loads, e)
	case "revoke":
		return e.Encode(struct {
			Name    string `json:"name"`
			Revoked bool   `json:"revoked"`
		}{f.name, true})
	}
	return e.Encode(&r.Things[0])
}

func printThings(r report, w io.Writer) {
	for _, one := range r.Things {
		special := ""
		if one.Revoked {
			special = "  revoked"
		}
		fmt.Fprintf(w, "%-24s %s  %s%s\n", one.Name, one.Made.Format("2006-01-02 15:04"), strings.Join(one.Topics, " "), special)
	}
	for _, k := range r.Knocks {
		twice := ""
		if k.Others {
			twice = ", with more than one password: perhaps two things of one name"
		}
		fmt.Fprintf(w, "%-24s knocks from %s as client %q, %d times, last %s%s; hearth thing approve %s lets it in\n",
			k.Name, k.From, k.Client, k.Times, k.Last.Format("2006-01-02 15:04"), twice, k.Name)
	}
}

// mostSessions is how many sessions are told of at one time.
const mostSessions = 500

func printSessions(loads []mqtt.Load, w io.Writer) {
	for _, l := range loads {
		where := "away"
		if l.Connected {
			where = "connected"
		}
		fmt.Fprintf(w, "%-24s %-24s %-9s", printable(l.Name), printable(l.ClientID), where)
		if l.Messages > 0 {
			fmt.Fprintf(w, "  %d messages wait, %d bytes on disk", l.Messages, l.Bytes)
		}
		if l.Memory > 0 {
			fmt.Fprintf(w, "  %d bytes in memory", l.Memory)
		}
		if l.Dropped > 0 {
			fmt.Fprintf(w, "  %d of QoS 0 dropped", l.Dropped)
		}
		fmt.Fprintln(w)
	}
}

// loadReport is a session as --json tells of it.
type loadReport struct {
	Name      string `json:"name"`
	ClientID  string `json:"client_id"`
	Connected bool   `json:"connected"`
	Messages  int64  `json:"messages"` // that wait on disk
	Bytes     int64  `json:"bytes"`
	Memory    int    `json:"memory_bytes"`
	Dropped   uint64 `json:"dropped"` // of QoS 0
}

func printLoads(loads []mqtt.Load, e *json.Encoder) error {
	all := make([]loadReport, 0, len(loads))
	for _, l := range loads {
		all = append(all, loadReport(l))
	}
	return e.Encode(struct {
		Sessions []loadReport `json:"sessions"`
	}{all})
}
