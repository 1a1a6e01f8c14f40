package e2ee

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"hearth/engine/fault"
)

const auth = `{"algorithm":"m.alg","auth_data":{"public_key":"k"}}`

func sessionJSON(verified bool, first, forwarded int, data string) string {
	return fmt.Sprintf(`{"first_message_index":%d,"forwarded_count":%d,"is_verified":%v,"session_data":{"d":%q}}`, first, forwarded, verified, data)
}

func (h *hub) backUp(version uint32, room, session, key string) (Backup, error) {
	h.t.Helper()
	k, err := ParseSessionKey(room, session, []byte(key))
	if err != nil {
		return Backup{}, err
	}
	return h.PutSessionKeys(1, version, []SessionKey{k})
}

func (h *hub) keysIn(version uint32, room string) string {
	h.t.Helper()
	r, err := h.Keys(1, version, room)
	must(h.t, err)
	b, err := io.ReadAll(iotest.OneByteReader(r))
	must(h.t, err)
	return string(b)
}

func TestBackupVersions(t *testing.T) {
	h := fresh(t)
	_, err := h.CurrentBackup(1)
	wants(t, err, fault.NotFound)
	wants(t, h.SetBackupAuth(1, 1, []byte(auth)), fault.NotFound)
	wants(t, h.DeleteBackup(1, 1), fault.NotFound)
	_, err = h.PutSessionKeys(1, 1, nil)
	wants(t, err, fault.NotFound)
	for _, body := range []string{`{}`, `{"algorithm":1,"auth_data":{}}`, `{"algorithm":"a"}`, `{"algorithm":"a","auth_data":[]}`} {
		_, err := h.NewBackup(1, []byte(body))
		wants(t, err, fault.BadJSON)
	}
	for want := uint32(1); want <= 2; want++ {
		if v, err := h.NewBackup(1, []byte(auth)); v != want || err != nil {
			t.Fatal(v, err)
		}
	}
	v, err := h.CurrentBackup(1)
	if err != nil || v.Version != 2 || v.Algorithm != "m.alg" || string(v.AuthData) != `{"public_key":"k"}` {
		t.Fatal(v, err)
	}
	wants(t, h.SetBackupAuth(1, 1, []byte(`{"algorithm":"other","auth_data":{}}`)), fault.Invalid)
	wants(t, h.SetBackupAuth(1, 1, []byte(`{"algorithm":"m.alg","auth_data":{},"version":"2"}`)), fault.Invalid)
	must(t, h.SetBackupAuth(1, 1, []byte(`{"algorithm":"m.alg","auth_data":{"new":1},"version":"1"}`)))
	if v, err := h.Backup(1, 1); err != nil || string(v.AuthData) != `{"new":1}` {
		t.Fatal(v, err)
	}
	if v, err := h.backUp(1, "!r", "s", sessionJSON(true, 0, 0, "x")); !fault.Is(err, fault.WrongKeysVersion) || v.Version != 2 {
		t.Fatal(v, err)
	}
	_, err = h.backUp(2, "!r", "s", sessionJSON(true, 0, 0, "x"))
	must(t, err)
	must(t, h.DeleteBackup(1, 2))
	must(t, h.DeleteBackup(1, 2))
	_, err = h.Keys(1, 2, "")
	wants(t, err, fault.NotFound)
	if v, err := h.CurrentBackup(1); err != nil || v.Version != 1 {
		t.Fatal(v, err)
	}
	if v, err := h.NewBackup(1, []byte(auth)); v != 3 || err != nil {
		t.Fatal("a version was given twice", v, err)
	}
	for s, want := range map[string]uint32{"1": 1, "0": 0, "": 0, "+1": 0, "01": 0, "-1": 0, "x": 0, "99999999999": 0} {
		if got := ParseVersion(s); got != want {
			t.Error(s, got)
		}
	}
}

func TestBetterKeysReplaceOthers(t *testing.T) {
	h := fresh(t)
	_, err := h.NewBackup(1, []byte(auth))
	must(t, err)
	put := func(verified bool, first, forwarded int, replaces bool) {
		t.Helper()
		before, err := h.Backup(1, 1)
		must(t, err)
		data := fmt.Sprint(verified, first, forwarded)
		v, err := h.backUp(1, "!r", "s", sessionJSON(verified, first, forwarded, data))
		must(t, err)
		got, err := h.AppendSessionKey(nil, 1, 1, "!r", "s")
		must(t, err)
		if strings.Contains(string(got), data) != replaces || (v.Etag != before.Etag) != replaces || v.Count != 1 {
			t.Fatal(data, string(got), v, before)
		}
	}
	put(false, 10, 5, true)
	for _, k := range [][2]int{{11, 5}, {10, 6}, {11, 0}} {
		put(false, k[0], k[1], false)
	}
	put(false, 10, 4, true)
	put(false, 9, 9, true)
	put(true, 20, 9, true)
	put(false, 0, 0, false)
	put(true, 20, 10, false)
	put(true, 19, 99, true)
}

func TestSessionKeys(t *testing.T) {
	h := fresh(t)
	_, err := h.NewBackup(1, []byte(auth))
	must(t, err)
	if got := h.keysIn(1, "") + h.keysIn(1, "!a"); got != `{"rooms":{}}{"sessions":{}}` {
		t.Fatal(got)
	}
	key := sessionJSON(true, 1, 2, "x")
	list, err := ParseSessionKeys("", fmt.Appendf(nil, `{"rooms":{"!a":{"sessions":{"1":%s,"12":%s}},"!ab":{"sessions":{"1":%s}}}}`, key, key, key))
	must(t, err)
	v, err := h.PutSessionKeys(1, 1, list)
	if err != nil || v.Count != 3 || v.Etag != 1 {
		t.Fatal(v, err)
	}
	if got, want := h.keysIn(1, ""), fmt.Sprintf(`{"rooms":{"!a":{"sessions":{"1":%s,"12":%s}},"!ab":{"sessions":{"1":%s}}}}`, key, key, key); got != want {
		t.Fatal(got)
	}
	if got, want := h.keysIn(1, "!a"), fmt.Sprintf(`{"sessions":{"1":%s,"12":%s}}`, key, key); got != want {
		t.Fatal(got)
	}
	for _, c := range []struct {
		room, session string
		left, etag    uint64
	}{{"!a", "none", 3, 1}, {"!none", "", 3, 1}, {"!a", "1", 2, 2}, {"!a", "", 1, 3}, {"", "", 0, 4}, {"", "", 0, 4}} {
		v, err := h.DeleteSessionKeys(1, 1, c.room, c.session)
		if err != nil || v.Count != c.left || v.Etag != c.etag {
			t.Fatal(c, v, err)
		}
	}
	_, err = h.DeleteSessionKeys(1, 2, "", "")
	wants(t, err, fault.NotFound)
	_, err = h.AppendSessionKey(nil, 1, 1, "!a", "1")
	wants(t, err, fault.NotFound)
	for _, bad := range []string{
		`[]`, `{}`, strings.Replace(key, "1", "-1", 1), strings.Replace(key, "true", "1", 1), strings.Replace(key, `{"d":"x"}`, `"x"`, 1),
	} {
		_, err := ParseSessionKey("!a", "1", []byte(bad))
		wants(t, err, fault.BadJSON)
	}
	for _, bad := range []string{`{}`, `{"rooms":[]}`, `{"rooms":{"!a":1}}`, `{"rooms":{"!a":{"sessions":[]}}}`, `{"rooms":{"!a":{"sessions":{"1":1}}}}`} {
		_, err := ParseSessionKeys("", []byte(bad))
		wants(t, err, fault.BadJSON)
	}
}

// A backup larger than a page is read whole.
func TestLargeBackup(t *testing.T) {
	h := fresh(t)
	_, err := h.NewBackup(1, []byte(auth))
	must(t, err)
	var list []SessionKey
	data := strings.Repeat("x", 500)
	for i := range 1000 {
		k, err := ParseSessionKey(fmt.Sprintf("!%d", i/100), fmt.Sprint(i), []byte(sessionJSON(true, 0, 0, data)))
		must(t, err)
		list = append(list, k)
	}
	_, err = h.PutSessionKeys(1, 1, list)
	must(t, err)
	r, err := h.Keys(1, 1, "")
	must(t, err)
	all, err := io.ReadAll(r)
	must(t, err)
	rooms, err := ParseSessionKeys("", all)
	if err != nil || len(rooms) != 1000 || len(all) < 20*page/2 || cap(r.buf) > 4*page {
		t.Fatal(len(rooms), len(all), cap(r.buf), err)
	}
}
