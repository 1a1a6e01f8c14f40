package main

import (
	"embed"
	"fmt"
	"strings"

	"hearth/engine/bridge"
)

const mappingHelp = `hearth mapping list
hearth mapping show NAME [--room ROOM]

Mappings say which MQTT topics belong to which room, and how much of Matrix they need. They are tables [[mapping]] of
the settings file, or state events of type io.hearth.mapping in the control room with the same keys.

  list   prints the mappings in force, what is wrong with others, and those that are ready to be taken
  show   prints a ready one, to be appended to the settings file

      --room ROOM          with show: the room's alias or id, in the place of ROOM
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

The keys of a mapping:
  topic        a topic filter; a level {name} matches any one level
  mode         local (plain MQTT), shadow, telemetry, event or command
  room         id or alias; {name} and {1} stand for levels of the topic
  type         type of the events; state_key: their state key, in the same way
  interval     least time between state events of a shadow, time that a digest is over; as 30s or 15m
  hide         with shadow: members of the state that the room is not shown, as ["linkquality"]
  changes      with event: true: a retained message that says what is retained already makes no event
  retain_days  how long samples are kept, default 30; the control room can only shorten it
  create       true: the room is made where its alias is free
  join         false: the hub lets no thing into the room by itself
  alert        true: a last will mentions the whole room; alert_in: it waits so long for the thing's return

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Example:
  hearth mapping show tasmota --room '#house:hub.example' >> hearth.toml
`

//go:embed ready/*.toml
var ready embed.FS

// readyNames lists the ready mappings with what each is for.
func readyNames() (list [][2]string, err error) {
	files, err := ready.ReadDir("ready")
	for _, f := range files {
		text, err := ready.ReadFile("ready/" + f.Name())
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(string(text), "# "), "\n")
		list = append(list, [2]string{strings.TrimSuffix(f.Name(), ".toml"), first})
	}
	return list, err
}

// mappingCmd carries out hearth mapping.
func mappingCmd(args []string, s streams) int {
	return told("mapping", mappingHelp, s, func() error {
		f := &hubFlags{}
		room := ""
		fs := f.flags()
		fs.StringVar(&room, "room", "", "")
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) == 1 && words[0] == "list":
			return listMappings(f, s)
		case len(words) == 2 && words[0] == "show":
			return showReady(words[1], room, s)
		case len(words) == 1 && words[0] == "show":
			return usage("show which? %s", readyList())
		}
		return usage("what shall be done? list, or show with the name of a ready mapping")
	})
}

// readyList names the ready mappings in a line.
func readyList() string {
	names, err := readyNames()
	if err != nil {
		return err.Error() // they are in the program
	}
	list := ""
	for i, n := range names {
		if i > 0 {
			list += ", "
		}
		list += n[0]
	}
	return list
}

// showReady prints a ready mapping for a room.
func showReady(name, room string, s streams) error {
	text, err := ready.ReadFile("ready/" + name + ".toml")
	switch {
	case err != nil:
		return usage("there is no ready mapping %q; there are %s", name, readyList())
	case room == "" && strings.Contains(string(text), `"ROOM"`):
		fmt.Fprintln(s.err, "hearth mapping: write your room in the place of ROOM, or give --room")
	case room != "" && room[0] != '#' && room[0] != '!':
		return usage("room %q: an id begins with !, an alias with # (quote it, the shell knows both)", room)
	case room != "":
		text = []byte(strings.ReplaceAll(string(text), `"ROOM"`, fmt.Sprintf("%q", room)))
	}
	_, err = s.out.Write(text)
	return err
}

func listMappings(f *hubFlags, s streams) error {
	r, err := f.ask(s, order{Do: "thing-mappings"})
	if err != nil {
		return err
	}
	for _, m := range r.Mappings {
		fmt.Fprintf(s.out, "%-36s %-10s %-28s %s\n", m.Topic, m.Mode, m.Room, m.Name)
	}
	for _, text := range r.Faults {
		fmt.Fprintf(s.out, "WRONG  %s\n", text)
	}
	names, err := readyNames()
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, "\nReady to be taken, with hearth mapping show NAME:")
	for _, n := range names {
		fmt.Fprintf(s.out, "  %-15s %s\n", n[0], n[1])
	}
	return nil
}

// mappings tells of the mappings in force.
func (a admin) mappings() report {
	list, faults := a.engine.Bridge.Mappings()
	r := report{Faults: faults}
	for _, m := range list {
		r.Mappings = append(r.Mappings, bridge.Mapping{Name: m.Name, Topic: m.Topic, Room: m.Room, Mode: m.Mode})
	}
	return r
}
