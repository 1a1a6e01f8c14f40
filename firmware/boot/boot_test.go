package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// TestKeep follows a box through its life: the first start, one without anything new, and new settings from the owner.
func TestKeep(t *testing.T) {
	boot, data := filepath.Join(t.TempDir(), SettingsFile), t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(boot, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keep := func() (*Settings, bool) {
		t.Helper()
		s, done, err := Keep(boot, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s, done
	}
	write("# only remarks\r\n")
	first, done := keep()
	if done || !strings.HasPrefix(first.Hostname, "hearth-") || !strings.Contains(string(first.Hub), `server_name = "`+first.Hostname+`.local"`) || !strings.Contains(string(first.Hub), `federation = "off"`) {
		t.Errorf("a box without settings: %+v, %s", first, first.Hub)
	}
	if again, _ := keep(); again.Hostname != first.Hostname || !bytes.Equal(again.Hub, first.Hub) {
		t.Errorf("the second start has other settings: %+v", again)
	}
	write("box_ntp = \"10.0.0.1\"\r\nmail_server = \"smtp://secret\"\r\n")
	newer, done := keep()
	if !done || newer.NTP != "10.0.0.1" || newer.Hostname != first.Hostname || !strings.Contains(string(newer.Hub), first.Hostname+".local") || !strings.Contains(string(newer.Hub), "smtp://secret") {
		t.Errorf("new settings: taken %v, %+v, %s", done, newer, newer.Hub)
	}
	if err := Overwrite(boot); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(boot); bytes.Contains(b, []byte("secret")) || says(b) {
		t.Errorf("the boot partition still says %q", b)
	}
	if after, done := keep(); done || after.NTP != "10.0.0.1" {
		t.Errorf("after the file was blanked: taken %v, %+v", done, after)
	}
	if after, _ := keep(); !strings.Contains(string(after.Hub), `federation = "off"`) {
		t.Errorf("a hub of the local network speaks with others since its settings were renewed:\n%s", after.Hub)
	}
	write("box_wings = \"two\"\n")
	if after, done := keep(); done || after.NTP != "10.0.0.1" || after.Wrong == nil || !strings.Contains(after.Wrong.Error(), "box_wings") {
		t.Errorf("a setting that is none: taken %v, %+v", done, after)
	}
	if _, _, err := Keep(boot, t.TempDir(), nil); !errors.Is(err, ErrSettings) {
		t.Errorf("a setting that is none, on a new box: %v", err)
	}
	if s, done, err := Keep(filepath.Dir(boot), data, nil); err != nil || done || s.NTP != "10.0.0.1" || s.Wrong == nil {
		t.Errorf("a file that cannot be read: %+v, taken %v, %v", s, done, err)
	}
	write("log_level = \"debug\"\n")
	s, done, err := Keep(boot, data, func(*Settings) error { return wrong("no such level") })
	if err != nil || done || s.Wrong == nil || strings.Contains(string(s.Hub), "log_level") {
		t.Errorf("settings that the hub does not take: %+v, taken %v, %v", s, done, err)
	}
}

// TestEditors: a file means the same whatever an editor makes of it, and what is no text takes no settings away.
func TestEditors(t *testing.T) {
	const text = "# a remark\r\n#box_hostname = \"other\"\r\n"
	const set = text + "box_wifi_ssid = \"h\u00f6hle\"\nbox_wifi_password = 12345678\nserver_name = 'hub.example'\n"
	wide := func(s string, order binary.AppendByteOrder) (b []byte) {
		for _, u := range utf16.Encode([]rune("\ufeff" + s)) {
			b = order.AppendUint16(b, u)
		}
		return b
	}
	for name, save := range map[string]func(string) []byte{
		"plain":     func(s string) []byte { return []byte(s) },
		"marked":    func(s string) []byte { return []byte("\ufeff" + s) },
		"wide":      func(s string) []byte { return wide(s, binary.LittleEndian) },
		"wide, big": func(s string) []byte { return wide(s, binary.BigEndian) },
		"old ends": func(s string) []byte {
			return []byte(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r"))
		},
		"other ends": func(s string) []byte {
			return []byte(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n"))
		},
	} {
		file, data := filepath.Join(t.TempDir(), SettingsFile), t.TempDir()
		keep := func(b []byte) (*Settings, bool) {
			t.Helper()
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
			s, done, err := Keep(file, data, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return s, done
		}
		s, done := keep(save(set))
		if !done || s.Wifi.SSID != "h\u00f6hle" || s.Wifi.Password != "12345678" || !strings.Contains(string(s.Hub), "\nserver_name = 'hub.example'\n") || strings.ContainsAny(string(s.Hub), "\r\ufeff\x00") {
			t.Errorf("%s: taken %v, %+v, %q", name, done, s, s.Hub)
		}
		if again, done := keep(save(text)); done || again.Wifi.SSID != s.Wifi.SSID {
			t.Errorf("%s: remarks alone have replaced the settings: %+v", name, again)
		}
	}
	for name, bad := range map[string][]byte{"another code": []byte("# h\xf6hle\n"), "no text": {0, 1, 2}, "too long": bytes.Repeat([]byte("#"), maxSettings+1), "wide without a mark": []byte("b\x00o\x00x\x00")} {
		if _, err := ParseSettings(bad); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBoxLines: what stands in quotes is what is meant, whatever is in it.
func TestBoxLines(t *testing.T) {
	for line, want := range map[string]string{
		`box_wifi_password = "say \"open\" \\ now"`: `say "open" \ now`, `box_wifi_password = 'it is "so\"'`: `it is "so\"`,
		`  box_wifi_password="plain \d one" # remark`: `plain \d one`, `box_wifi_password = 1234567890`: "1234567890",
	} {
		s, err := ParseSettings([]byte("box_wifi_ssid = \"a\"\n" + line))
		if err != nil || s.Wifi.Password != want {
			t.Errorf("%s: %+v, %v", line, s, err)
		}
	}
	for _, bad := range []string{`box_claim_code = "short"`, `box_claim_code = "with a space in it"`, `box_reset = "all"`, `box_ntp = "a" "b"`} {
		if _, err := ParseSettings([]byte(bad)); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if s, err := ParseSettings([]byte(`box_claim_code = "abcd-efgh-ijkl"`)); err != nil || s.Claim != "abcd-efgh-ijkl" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestHubRefuses: what the hub says of settings gets to the owner, and nothing else that it prints.
func TestHubRefuses(t *testing.T) {
	for want, c := range map[string][2]string{
		"no server name; no such level":    {"  secret_key  hush  /run/new.toml:1\nFindings:\n  WRONG  /run/new.toml:1: no server name\n  note   all else\n  WRONG  /run/new.toml:2: no such level\n", "hearth check: 2 findings\n"},
		"there is no setting \"nonsense\"": {"", "hearth check: /run/new.toml:4: there is no setting \"nonsense\"\nhearth check --help explains.\n"},
	} {
		err := HubRefuses(c[0], c[1], "/run/new.toml")
		if !errors.Is(err, ErrSettings) || !strings.HasSuffix(err.Error(), SettingsFile+": "+want) {
			t.Errorf("%v, and not %s", err, want)
		}
		if page := rescuePage(err); !strings.Contains(page, want) || !strings.Contains(page, "mend the file") || strings.Contains(page, "worn out") {
			t.Errorf("the page says %s", page)
		}
	}
}

func TestDevice(t *testing.T) {
	for name, want := range map[string]string{"vda": "/dev/vda5", "mmcblk0": "/dev/mmcblk0p5", "nvme0n1": "/dev/nvme0n1p5"} {
		if got := (&Disk{Name: name}).Device(5); got != want {
			t.Errorf("the fifth partition of %s is %s", name, got)
		}
	}
}

// TestStages walks a hub that falls silent through all that happens to it.
func TestStages(t *testing.T) {
	at := time.Unix(1000, 0)
	h := NewHealth(at)
	if h.judge(at.Add(9*time.Minute), time.Time{}) != feed {
		t.Error("a store that is opened for nine minutes was not waited for")
	}
	if h.judge(at.Add(openTime), time.Time{}) != kick {
		t.Error("a hub that never served was left alone")
	}
	at = at.Add(openTime)
	h.hear("STATUS=running\nREADY=1\nX_HEARTH_PORT=80\nX_HEARTH_CLAIM=abcd", at)
	if port, claim := h.Said(); port != "80" || claim != "abcd" {
		t.Errorf("the hub is at port %q with code %q", port, claim)
	}
	if h.hear("WATCHDOG=1\nX_HEARTH_PORT=80\nX_HEARTH_CLAIM=", at); h.claim != "" {
		t.Error("a hub with an owner still shows its claim code")
	}
	select {
	case <-h.Ready():
	default:
		t.Error("ready was not heard")
	}
	if h.judge(at.Add(59*time.Second), time.Time{}) != feed || h.judge(at.Add(kickAfter), time.Time{}) != kick {
		t.Error("a silent hub is not ended after a minute")
	}
	h.Ended()
	kicked := at.Add(kickAfter)
	if h.judge(kicked.Add(time.Minute), kicked) != feed {
		t.Error("a hub that was just started anew was ended")
	}
	if h.judge(at.Add(resetTime), kicked) != reset {
		t.Error("a box whose hub is never well again is not reset")
	}
	h.hear("WATCHDOG=1", at.Add(resetTime))
	if h.judge(at.Add(resetTime+time.Second), kicked) != feed {
		t.Error("a hub that is well again is not believed")
	}
}

// TestAsk asks servers that answer rightly and wrongly.
func TestAsk(t *testing.T) {
	floor := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		spoil func(answer []byte)
		ok    bool
	}{
		"right":           {func([]byte) {}, true},
		"another's":       {func(a []byte) { a[24]++ }, false},
		"not in time":     {func(a []byte) { a[0] |= 0xc0 }, false},
		"kiss of death":   {func(a []byte) { a[1] = 0 }, false},
		"before the past": {func(a []byte) { putStamp(a[32:], floor.Add(-time.Hour)); putStamp(a[40:], floor.Add(-time.Hour)) }, false},
	} {
		off, _, err := Ask(t.Context(), ntpServer(t, time.Hour, c.spoil), floor)
		switch {
		case (err == nil) != c.ok:
			t.Errorf("%s: %v", name, err)
		case err == nil && (off-time.Hour).Abs() > 10*time.Second:
			t.Errorf("%s: the clock is off by %v", name, off)
		}
	}
}

// TestBelieve: no single server takes a box far away, or back.
func TestBelieve(t *testing.T) {
	const year = 365 * 24 * time.Hour
	c := &Clock{Servers: []string{"a", "b", "c"}}
	for i, step := range []struct {
		answer
		want bool
	}{
		{answer{"a", time.Hour}, true},
		{answer{"a", 70 * year}, false},
		{answer{"a", 70 * year}, false}, // itself is no other
		{answer{"b", year}, false},
		{answer{"c", year + time.Second}, true},
		{answer{"a", year}, false}, // a doubt is gone once the clock was set
		{answer{"b", time.Second}, true},
		{answer{"c", year}, false},
		{answer{"b", -year}, false},
		{answer{"a", -year}, true},
	} {
		if got := c.believe(step.answer); got != step.want {
			t.Errorf("answer %d, %v by %s: believed %v", i, step.off, step.server, got)
		}
	}
	own := &Clock{Servers: []string{"own"}}
	if !own.believe(answer{"own", year}) {
		t.Error("the owner's own server was not believed")
	}
}

func putStamp(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+epoch))
	binary.BigEndian.PutUint32(b[4:], 0)
}

// ntpServer answers one question with a clock that is ahead.
func ntpServer(t *testing.T, ahead time.Duration, spoil func([]byte)) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		q := make([]byte, 512)
		_, from, err := c.ReadFrom(q)
		if err != nil {
			return
		}
		a := make([]byte, 48)
		a[0], a[1] = 4<<3|4, 2
		copy(a[24:32], q[40:48])
		putStamp(a[32:], time.Now().Add(ahead))
		putStamp(a[40:], time.Now().Add(ahead))
		spoil(a)
		c.WriteTo(a, from)
	}()
	return c.LocalAddr().String()
}

// TestLease: an address is asked for anew when a connection is back, and at no other time.
func TestLease(t *testing.T) {
	l := newLease()
	for i, step := range []struct{ on, anew bool }{{false, false}, {true, false}, {true, false}, {false, false}, {false, false}, {true, true}, {true, false}, {false, false}, {true, true}} {
		l.look(step.on)
		anew := false
		select {
		case <-l.anew:
			anew = true
		default:
		}
		if anew != step.anew {
			t.Errorf("step %d: asked anew %v", i, anew)
		}
	}
}

// TestFloor: a clock that was kept is not gone back behind, and one that is nonsense is not believed.
func TestFloor(t *testing.T) {
	c := &Clock{Dir: t.TempDir(), Built: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if !c.floor().Equal(c.Built) {
		t.Error("a box that kept no time has another floor than its image")
	}
	c.Save()
	if d := time.Since(c.floor()); d < 0 || d > time.Minute {
		t.Errorf("the time that was kept is %v old", d)
	}
	if err := os.WriteFile(c.file(), []byte("tomorrow"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !c.floor().Equal(c.Built) {
		t.Error("nonsense was believed")
	}
}

// TestCrashes: few are kept, the newest among them, and one that falls over again and again leaves the earlier ones there.
func TestCrashes(t *testing.T) {
	dir, at := t.TempDir(), time.Now()
	keep := func(what string) string {
		t.Helper()
		if err := KeepCrash(dir, at, errors.New("fell over"), []byte(what)); err != nil {
			t.Fatal(err)
		}
		all, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(all) > crashes {
			t.Fatalf("%d reports, %v", len(all), err)
		}
		var text strings.Builder
		for _, path := range all {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(b)
		}
		return text.String()
	}
	for i := range crashes + 3 {
		at = at.Add(2 * crashGap)
		if said := fmt.Sprintf("words %d.", i); !strings.Contains(keep(said), said) {
			t.Errorf("%s is not there", said)
		}
	}
	last := ""
	for i := range 10 * crashes {
		at = at.Add(late)
		last = keep(fmt.Sprintf("again %d.", i))
	}
	if !strings.Contains(last, fmt.Sprintf("words %d.", crashes+2)) || !strings.Contains(last, "again 0.") || strings.Count(last, "again") > crashes/2 {
		t.Errorf("after many falls in a row:\n%s", last)
	}
}

// TestProgram starts one that ends at once: it is started again, and its end is told with what it said.
func TestProgram(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	starts := 0
	Program{Path: "/bin/sh", Args: []string{"-c", "echo last words; exit 3"}, Over: func(err error, printed []byte) {
		if starts++; err == nil || string(printed) != "last words\n" {
			t.Errorf("it ended with %v, having said %q", err, printed)
		}
		if starts == 2 {
			end()
		}
	}}.Run(ctx, nil)
	if starts != 2 {
		t.Errorf("it was started %d times", starts)
	}
}
