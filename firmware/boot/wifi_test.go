package boot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWifiKey: the examples of IEEE 802.11 for making a key of a password.
func TestWifiKey(t *testing.T) {
	for _, c := range [][3]string{
		{"IEEE", "password", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"},
		{"ThisIsASSID", "ThisIsAPassword", "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"},
	} {
		for _, password := range []string{c[1], c[2]} {
			if key, err := wifiKey(c[0], password); err != nil || hex.EncodeToString(key) != c[2] {
				t.Errorf("%s: %x %v", c[0], key, err)
			}
		}
	}
	if key, err := wifiKey("open", ""); key != nil || err != nil {
		t.Errorf("a network without a password: %x %v", key, err)
	}
	for _, bad := range []string{"short", strings.Repeat("x", 64), strings.Repeat("x", 65)} {
		if _, err := wifiKey("net", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestWifiSettings(t *testing.T) {
	s, err := ParseSettings([]byte("box_wifi_ssid = \"my house\"\r\nbox_wifi_password = \"open sesame #1\"\nbox_wifi_country = \"DE\"\n"))
	if err != nil || s.Wifi != (Wifi{"my house", "open sesame #1", "DE"}) {
		t.Errorf("%+v %v", s, err)
	}
	for _, bad := range []string{`box_wifi_password = "long enough"`, `box_wifi_password = long enough`, "box_wifi_ssid = \"a\"\nbox_wifi_password = \"short\"", "box_wifi_ssid = \"a\"\nbox_wifi_country = \"germany\"", `box_wifi_ssid = "` + strings.Repeat("x", 33) + `"`} {
		if _, err := ParseSettings([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "long enough") || strings.Contains(err.Error(), "short") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// attributes reads a message back.
func attributes(t *testing.T, b []byte) map[uint16][]byte {
	t.Helper()
	all := map[uint16][]byte{}
	for len(b) > 0 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			t.Fatalf("an attribute of %d bytes in %x", size, b)
		}
		all[binary.NativeEndian.Uint16(b[2:])] = b[4:size]
		b = b[(size+3)&^3:]
	}
	return all
}

func TestConnectTo(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	m := message(28, 5, unix.NL80211_CMD_CONNECT, connectTo(3, "house", key))
	if binary.NativeEndian.Uint32(m) != uint32(len(m)) || binary.NativeEndian.Uint16(m[4:]) != 28 || m[16] != unix.NL80211_CMD_CONNECT || len(m)%4 != 0 {
		t.Fatalf("%x", m)
	}
	n32 := func(n uint32) string { return string(binary.NativeEndian.AppendUint32(nil, n)) }
	got := attributes(t, m[20:])
	for kind, want := range map[uint16]string{
		unix.NL80211_ATTR_IFINDEX: n32(3), unix.NL80211_ATTR_SSID: "house", unix.NL80211_ATTR_AUTH_TYPE: n32(0), unix.NL80211_ATTR_PRIVACY: "", unix.NL80211_ATTR_WPA_VERSIONS: n32(2),
		unix.NL80211_ATTR_CIPHER_SUITES_PAIRWISE: n32(0xfac04), unix.NL80211_ATTR_CIPHER_SUITE_GROUP: n32(0xfac04), unix.NL80211_ATTR_AKM_SUITES: n32(0xfac02), unix.NL80211_ATTR_PMK: string(key),
	} {
		if v, ok := got[kind]; !ok || string(v) != want {
			t.Errorf("attribute %d is %x, not %x", kind, v, want)
		}
	}
	open := attributes(t, connectTo(3, "house", nil))
	if _, ok := open[unix.NL80211_ATTR_PMK]; ok || len(open) != 3 {
		t.Errorf("a network without a password: %v", open)
	}
}

// TestAnswers reads what a kernel says, and what none would say.
func TestAnswers(t *testing.T) {
	family := attribute(attribute(nil, unix.CTRL_ATTR_FAMILY_NAME, []byte("nl80211\x00")), unix.CTRL_ATTR_FAMILY_ID, []byte{28, 0})
	if n, err := familyOf(family); err != nil || n != binary.NativeEndian.Uint16([]byte{28, 0}) {
		t.Errorf("%d %v", n, err)
	}
	verdict := func(seq uint32, code int32) []byte {
		m := message(unix.NLMSG_ERROR, seq, 0, nil)
		binary.NativeEndian.PutUint32(m[16:], uint32(code))
		return m
	}
	if a, done, err := readAnswer(append(message(16, 9, 1, family), verdict(9, 0)...), 9); !bytes.Equal(a, family) || !done || err != nil {
		t.Errorf("%x %v %v", a, done, err)
	}
	if _, done, err := readAnswer(verdict(9, -int32(unix.EALREADY)), 9); !done || !errors.Is(err, unix.EALREADY) {
		t.Errorf("refused: %v %v", done, err)
	}
	if a, done, err := readAnswer(verdict(8, -1), 9); done || err != nil || a != nil {
		t.Errorf("an answer to another question: %x %v %v", a, done, err)
	}
	for _, bad := range [][]byte{{1, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 64), bytes.Repeat([]byte{0}, 64)} {
		if _, done, _ := readAnswer(bad, 0); done {
			t.Errorf("%x is an answer", bad)
		}
		if _, err := familyOf(bad); err == nil {
			t.Errorf("%x has a family", bad)
		}
	}
}

// TestNoRadio: a kernel without Wi-Fi, as of most machines that run tests, is told of, not fallen over.
func TestNoRadio(t *testing.T) {
	if n, err := openNetlink(); err == nil {
		n.close()
	} else if !strings.Contains(err.Error(), "Wi-Fi") {
		t.Error(err)
	}
	if err := loadModules(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("a board without drivers: %v", err)
	}
}
