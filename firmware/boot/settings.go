package boot

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// SettingsFile is the name of the owner's settings on the boot partition, which every computer can write.
const SettingsFile = "hearth.txt"

// Settings are what the owner said of a box. Lines of the file that begin with box_ are the box's, all others the hub's.
type Settings struct {
	Hostname  string // box_hostname
	NTP       string // box_ntp: a server of the owner's; empty: public ones
	UpdateURL string // box_update_url: where newer versions are looked for once a day; empty: nowhere
	Hub       []byte // the hub's settings, in TOML
	Wifi      Wifi   // box_wifi_ssid, box_wifi_password, box_wifi_country
	Reset     string // box_reset: ResetOwner or ResetFactory, asked for at this start; never kept
}

// What box_reset can ask for, with the card in hand.
const (
	ResetOwner   = "owner"   // a new claim code, for who has lost the password
	ResetFactory = "factory" // all that was kept is deleted
)

var boxLine = regexp.MustCompile(`^\s*box_(\w+)\s*=\s*"([^"]*)"\s*(#.*)?$`)

// ParseSettings reads the owner's file.
func ParseSettings(text []byte) (*Settings, error) {
	s := &Settings{}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\r\n", "\n")) {
		line = strings.TrimRight(line, "\n")
		if !strings.HasPrefix(strings.TrimSpace(line), "box_") {
			s.Hub = append(append(s.Hub, line...), '\n')
			continue
		}
		m := boxLine.FindStringSubmatch(line)
		if m == nil {
			key, _, _ := strings.Cut(strings.TrimSpace(line), "=") // what stands behind it may be a password
			return nil, fmt.Errorf("%s: the line of %q is not of the form box_hostname = \"name\"", SettingsFile, strings.TrimSpace(key))
		}
		switch m[1] {
		case "hostname":
			s.Hostname = m[2]
		case "ntp":
			s.NTP = m[2]
		case "wifi_ssid":
			s.Wifi.SSID = m[2]
		case "wifi_password":
			s.Wifi.Password = m[2]
		case "wifi_country":
			s.Wifi.Country = m[2]
		case "reset":
			if m[2] != ResetOwner && m[2] != ResetFactory {
				return nil, fmt.Errorf("%s: box_reset is %q or %q, not %q", SettingsFile, ResetOwner, ResetFactory, m[2])
			}
			s.Reset = m[2]
		case "update_url":
			s.UpdateURL = m[2]
		default:
			return nil, fmt.Errorf("%s: there is no setting box_%s", SettingsFile, m[1])
		}
	}
	if err := s.Wifi.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", SettingsFile, err)
	}
	return s, nil
}

// says tells whether the owner's file sets anything.
func says(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// Keep takes the settings from the boot partition into the folder data and gives what holds. Settings that the owner
// put there later replace the earlier ones. done says that the file was taken and is to be overwritten, since it may
// hold secrets and the boot partition can be read by everybody who has the card.
//
// A box without a name gets one of its own, which it keeps. A reset is no setting, and is not kept: the box forgets
// everything before it goes on where that is asked for, and a new owner is for the caller to see to, before the file is
// overwritten. Both can be done twice, as they are where the power is cut in between.
func Keep(bootFile, data string) (s *Settings, done bool, err error) {
	text, err := os.ReadFile(bootFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	asked, err := ParseSettings(text)
	if err != nil {
		return nil, false, err
	}
	if asked.Reset == ResetFactory {
		if err := Forget(data); err != nil {
			return nil, false, err
		}
	}
	s, done, err = keep(resetLine.ReplaceAll(text, nil), data)
	if s != nil {
		s.Reset = asked.Reset
	}
	return s, done || asked.Reset != "", err
}

var resetLine = regexp.MustCompile(`(?m)^[ \t]*box_reset[ \t]*=.*$`)

// keep is Keep for the text of a file that asks for no reset.
func keep(text []byte, data string) (s *Settings, done bool, err error) {
	kept := filepath.Join(data, SettingsFile)
	old, err := os.ReadFile(kept)
	switch {
	case says(text):
		done = true
	case err == nil:
		s, err := ParseSettings(old)
		return s, false, err
	case !errors.Is(err, os.ErrNotExist):
		return nil, false, err
	}
	if old != nil { // the name stays, unless the owner says another
		if was, err := ParseSettings(old); err == nil {
			text = inherit(text, was)
		}
	}
	if text, err = complete(text); err != nil {
		return nil, false, err
	}
	if err := WriteFile(kept, text, 0o600); err != nil {
		return nil, false, err
	}
	s, err = ParseSettings(text)
	return s, done, err
}

// has says whether a line sets the key.
func has(text []byte, key string) bool {
	return regexp.MustCompile(`(?m)^\s*` + key + `\s*=`).Match(text)
}

// inherit adds what a box cannot change once it was said: its names.
func inherit(text []byte, was *Settings) []byte {
	if !has(text, "box_hostname") && was.Hostname != "" {
		text = fmt.Appendf(nil, "box_hostname = %q\n%s", was.Hostname, text)
	}
	if name := regexp.MustCompile(`(?m)^\s*server_name\s*=.*$`).Find(was.Hub); name != nil && !has(text, "server_name") {
		text = fmt.Appendf(nil, "%s\n%s", name, text)
	}
	return text
}

// complete adds, in front, what the owner did not say and a box needs.
func complete(text []byte) ([]byte, error) {
	var front []byte
	add := func(key, value string) {
		if !has(text, key) {
			front = fmt.Appendf(front, "%s = %s\n", key, value)
		}
	}
	s, err := ParseSettings(text)
	if err != nil {
		return nil, err
	}
	host := s.Hostname
	if host == "" {
		var b [2]byte
		rand.Read(b[:])
		host = "hearth-" + hex.EncodeToString(b[:])
		add("box_hostname", `"`+host+`"`)
	}
	if !has(text, "server_name") {
		add("federation", `"off"`) // nobody finds a hub by a name of the local network
	}
	add("server_name", `"`+host+`.local"`)
	add("client_listen", `"0.0.0.0:8008"`)
	add("mqtt_listen", `["0.0.0.0:1883"]`)
	return append(front, text...), nil
}

// Overwrite puts blanks over a file of the boot partition, in the sectors where it lies: a FAT is never made to create,
// rename or delete on a box, which is what power cuts break.
func Overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	blank := bytes.Repeat([]byte(" "), int(st.Size()))
	copy(blank, "# These settings were taken. New ones written here replace them at the next start.\n")
	if len(blank) > 0 {
		blank[len(blank)-1] = '\n'
	}
	if _, err := f.WriteAt(blank, 0); err != nil {
		return err
	}
	return f.Sync()
}

// WriteFile replaces a file of the data partition, wholly or not at all.
func WriteFile(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
