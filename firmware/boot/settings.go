package boot

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
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
	Claim     string // box_claim_code: the claim code to be, for a box without a screen; empty: the hub makes one
	Reset     string // box_reset: one of the words below, asked for at this start; never kept
	Wrong     error  // why the file on the card was not taken, and what was kept holds; nil: nothing is wrong
}

// What box_reset can ask for, with the card in hand.
const (
	ResetOwner   = "owner"   // a new claim code, for who has lost the password
	ResetClock   = "clock"   // the time that was kept is forgotten, where a wrong one was believed
	ResetFactory = "factory" // all that was kept is deleted, but for the time
)

// maxSettings is how long the owner's file may be, in bytes.
const maxSettings = 64 << 10

// ErrSettings is wrapped by errors that the owner can mend, by writing hearth.txt anew.
var ErrSettings = errors.New("the settings on the card are wrong")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrSettings, SettingsFile, fmt.Sprintf(format, args...))
}

// decode gives the owner's file as UTF-8 with plain ends of lines, however the editor of some computer has saved it.
func decode(text []byte) ([]byte, error) {
	if len(text) > maxSettings {
		return nil, wrong("it has more than %d bytes", maxSettings)
	}
	wide := func(order binary.ByteOrder) []byte {
		var units []uint16
		for b := text[2:]; len(b) > 1; b = b[2:] {
			units = append(units, order.Uint16(b))
		}
		return []byte(string(utf16.Decode(units)))
	}
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		text = wide(binary.LittleEndian)
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		text = wide(binary.BigEndian)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, wrong("it is not plain text in UTF-8; save it as that")
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")), nil
}

// boxLine is a line of the box's own: text in quotes, in which \" and \\ stand for " and \, or a number.
var (
	boxLine = regexp.MustCompile(`^\s*box_(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([0-9]+))\s*(#.*)?$`)
	escaped = strings.NewReplacer(`\\`, `\`, `\"`, `"`)
	claim   = regexp.MustCompile(`^[A-Za-z0-9._~-]{12,64}$`)
)

// ParseSettings reads the owner's file. Its errors wrap ErrSettings.
func ParseSettings(text []byte) (*Settings, error) {
	text, err := decode(text)
	if err != nil {
		return nil, err
	}
	s := &Settings{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if !strings.HasPrefix(strings.TrimSpace(line), "box_") {
			s.Hub = append(append(s.Hub, line...), '\n')
			continue
		}
		m := boxLine.FindStringSubmatch(line)
		if m == nil {
			key, _, _ := strings.Cut(strings.TrimSpace(line), "=") // what stands behind it may be a password
			return nil, wrong("the line of %q is not of the form box_hostname = \"name\"", strings.TrimSpace(key))
		}
		if err := s.set(m[1], escaped.Replace(m[2])+m[3]+m[4]); err != nil {
			return nil, err
		}
	}
	if err := s.Wifi.check(); err != nil {
		return nil, wrong("%v", err)
	}
	return s, nil
}

// set takes one setting of the box.
func (s *Settings) set(key, value string) error {
	to := map[string]*string{
		"hostname": &s.Hostname, "ntp": &s.NTP, "update_url": &s.UpdateURL, "claim_code": &s.Claim, "reset": &s.Reset,
		"wifi_ssid": &s.Wifi.SSID, "wifi_password": &s.Wifi.Password, "wifi_country": &s.Wifi.Country,
	}[key]
	switch {
	case to == nil:
		return wrong("there is no setting box_%s", key)
	case key == "reset" && value != ResetOwner && value != ResetClock && value != ResetFactory:
		return wrong("box_reset is %q, %q or %q, not %q", ResetOwner, ResetClock, ResetFactory, value)
	case key == "claim_code" && value != "" && !claim.MatchString(value):
		return wrong("box_claim_code has 12 to 64 letters and digits")
	}
	*to = value
	return nil
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
// put there later replace the earlier ones, unless they are wrong by ParseSettings or by judge, which may be nil: then the
// earlier ones go on to hold, so that a slip of the pen takes no hub away, and Wrong says what it is. done says that the
// file was taken and is to be overwritten, since it may hold secrets and the boot partition can be read by everybody who has
// the card.
//
// A box without a name gets one of its own, which it keeps. A reset is no setting, and is not kept: the box forgets
// everything before it goes on where that is asked for, and the other kinds are for the caller to see to, before the file is
// overwritten. All can be done twice, as they are where the power is cut in between.
func Keep(bootFile, data string, judge func(*Settings) error) (s *Settings, done bool, err error) {
	text, err := os.ReadFile(bootFile)
	asked, bad := ParseSettings(text)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		bad = wrong("it cannot be read: %v", err)
	}
	if bad == nil && asked.Reset == ResetFactory {
		if err := Forget(data); err != nil {
			return nil, false, err
		}
	}
	kept := filepath.Join(data, SettingsFile)
	old, err := os.ReadFile(kept)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	if bad == nil {
		s, done, bad = keep(text, old, kept, judge)
	}
	switch {
	case bad == nil:
		s.Reset = asked.Reset
		return s, done || asked.Reset != "", nil
	case old == nil || !errors.Is(bad, ErrSettings):
		return nil, false, bad
	}
	if s, err = ParseSettings(old); err != nil {
		return nil, false, err
	}
	s.Wrong = bad
	return s, false, nil
}

var resetLine = regexp.MustCompile(`(?m)^[ \t]*box_reset[ \t]*=.*$`)

// keep is Keep for a file that can be read; old are the settings that hold up to now, nil where there are none.
func keep(text, old []byte, kept string, judge func(*Settings) error) (s *Settings, done bool, err error) {
	if text, err = decode(text); err != nil {
		return nil, false, err
	}
	text = resetLine.ReplaceAll(text, nil)
	done = says(text)
	if !done && old != nil {
		s, err = ParseSettings(old)
		return s, false, err
	}
	if old != nil { // the name stays, unless the owner says another
		if was, err := ParseSettings(old); err == nil {
			text = inherit(text, was)
		}
	}
	if text, err = complete(text); err != nil {
		return nil, false, err
	}
	if s, err = ParseSettings(text); err == nil {
		err = renamed(text, old, filepath.Join(filepath.Dir(kept), HubFolder))
	}
	if err == nil && judge != nil {
		err = judge(s)
	}
	if err != nil {
		return nil, false, err
	}
	return s, done, WriteFile(kept, text, 0o600)
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

// serverName finds the hub's name.
var serverName = regexp.MustCompile(`(?m)^\s*server_name\s*=\s*["']([^"'\n]*)["']`)

// nameOf is the hub's name; empty where none is set.
func nameOf(text []byte) string {
	if m := serverName.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return ""
}

// renamed says that a hub that has started once is called otherwise, which it would not start with.
func renamed(text, old []byte, hub string) error {
	was, now := nameOf(old), nameOf(text)
	if _, err := os.Stat(filepath.Join(hub, "store")); err != nil || was == "" || now == was {
		return nil
	}
	return wrong("this hub is %s for ever, and cannot become %s; box_reset = \"factory\" begins anew with another name", was, now)
}

// HubRefuses makes an error of what the hub said of settings that it would not start with, in a file.
func HubRefuses(said, complained, file string) error {
	var all []string
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "WRONG"); ok {
			all = append(all, strings.TrimSpace(text))
		}
	}
	if len(all) == 0 {
		first, _, _ := strings.Cut(complained, "\n")
		all = []string{strings.TrimPrefix(first, "hearth check: ")}
	}
	for i, text := range all { // the lines of that file are not those of the owner's
		if at, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(at, file) {
			all[i] = rest
		}
	}
	return wrong("%s", strings.Join(all, "; "))
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
	if !has(text, "server_name") || strings.HasSuffix(nameOf(text), ".local") {
		add("federation", `"off"`) // nobody finds a hub by a name of the local network
	}
	add("server_name", `"`+host+`.local"`)
	add("client_listen", `":8008"`) // by IPv6 too, which is all that some networks have
	add("mqtt_listen", `[":1883"]`)
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
