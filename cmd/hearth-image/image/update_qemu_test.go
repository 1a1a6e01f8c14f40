package image

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hearth/firmware/card"
	"hearth/firmware/update"
)

// updates takes the running box to a second version, which has to stay, and to a third, whose hub ends again and again:
// the second has to come back by itself, with everything that was acknowledged meanwhile. It gives the ids of that. What
// is signed wrongly, for another board, or damaged changes nothing.
//
//	HEARTH_KEY       secret key, whose public one is in the image
//	HEARTH_PROGRAMS  folder with the programs of the image
func (b *box) updates(room string) (sent []string) {
	key, programs := b.key(), os.Getenv("HEARTH_PROGRAMS")
	first := b.state()
	second := b.archive(key, programs, "2.0.0", 2)
	began := time.Now()
	b.refused(second)
	b.push(second)
	s := b.ends()
	if s.Version != "2.0.0" || s.Last.Outcome != update.Committed || s.Slot == first.Slot {
		b.Fatalf("the second version: %+v\n%s", s, b.console())
	}
	b.Logf("from version %s to %s in %.0f s", first.Version, s.Version, time.Since(began).Seconds())

	third := b.archive(key, b.broken(programs), "3.0.0", 3)
	writing, end := b.writer(room)
	began = time.Now()
	b.push(third)
	s = b.ends()
	if s.Version != "2.0.0" || s.Last.Outcome != update.RolledBack || s.Last.Version != "3.0.0" || !strings.Contains(s.Last.Why, "ended 5 times") {
		b.Fatalf("the third version: %+v\n%s", s, b.console())
	}
	sent = end()
	b.Logf("back from a bad version in %.0f s: %s; %d events acknowledged meanwhile, %d of them by it", time.Since(began).Seconds(), s.Last.Why, len(sent), *writing)
	if *writing == 0 {
		b.Error("the bad version has written nothing, so this shows less than it should")
	}
	return sent
}

// key is the one that signs updates of the image.
func (b *box) key() ed25519.PrivateKey {
	b.Helper()
	text, err := os.ReadFile(os.Getenv("HEARTH_KEY"))
	if err != nil {
		b.Fatal(err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(seed)
}

// archive builds one of the programs in a folder, with its own version.
func (b *box) archive(key ed25519.PrivateKey, programs, version string, later int64) []byte {
	b.Helper()
	return b.changed(key, programs, version, later, nil)
}

// changed builds one whose parts are changed first.
func (b *box) changed(key ed25519.PrivateKey, programs, version string, later int64, change func(p *parts)) []byte {
	b.Helper()
	board, err := FindBoard("virt")
	if err != nil {
		b.Fatal(err)
	}
	plan, err := card.PlanOf(board.Loader)
	if err != nil {
		b.Fatal(err)
	}
	public := filepath.Join(b.dir, "key.pub")
	if err := os.WriteFile(public, []byte(base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))+"\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	o := Options{
		Board: board, Programs: programs, Parts: "..", Version: version, Time: now, Sequence: now.Unix() + later, Keys: public, To: b.dir, Say: func(string) {},
	}
	p, err := o.parts(plan)
	if err != nil {
		b.Fatal(err)
	}
	defer p.drop()
	if change != nil {
		change(p)
	}
	path, err := o.pack(p, key)
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// broken makes a folder of programs with a hub that ends by itself.
func (b *box) broken(programs string) string {
	dir := filepath.Join(b.dir, "broken")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"init", "dhcp", "e2fsck"} {
		text, err := os.ReadFile(filepath.Join(programs, name))
		if err != nil && name == "e2fsck" {
			continue
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	hub := filepath.Join(dir, "hearth")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", hub, "./testdata/broken")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	f, err := os.OpenFile(hub, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	text, err := os.ReadFile(filepath.Join(programs, "hearth"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Write(binary.BigEndian.AppendUint64(text, uint64(len(text)))); err != nil {
		b.Fatal(err)
	}
	return dir
}

// call makes one request about updates, and gives status 0 where nobody answered.
func (b *box) call(method string, body []byte) (int, update.Status, string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+"/_hearth/admin/v1/update", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	var s update.Status
	resp, err := (&http.Client{Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return 0, s, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, s, err.Error()
	}
	_ = json.Unmarshal(text, &s)
	return resp.StatusCode, s, string(text)
}

func (b *box) state() update.Status {
	b.Helper()
	status, s, text := b.call("GET", nil)
	if status != http.StatusOK || s.Version == "" {
		b.Fatalf("the state of updates: %d %s\n%s", status, text, b.console())
	}
	return s
}

func (b *box) push(archive []byte) {
	b.Helper()
	if status, _, text := b.call("PUT", archive); status != http.StatusOK {
		b.Fatalf("bringing an archive: %d %s\n%s", status, text, b.console())
	}
}

// ends waits until an update has come to its end, through all restarts.
func (b *box) ends() update.Status {
	b.Helper()
	for deadline := time.Now().Add(8 * time.Minute); ; {
		status, s, _ := b.call("GET", nil)
		if status == http.StatusOK && s.Doing == "" && !s.Trial && s.Last != nil && s.Last.Outcome != "" && !s.Last.Time.Equal(b.last) {
			b.last = s.Last.Time
			return s
		}
		if time.Now().After(deadline) {
			b.Fatalf("the update does not end: %+v\n%s", s, b.console())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// refused brings what must not be taken.
func (b *box) refused(good []byte) {
	b.Helper()
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	other, err := update.Header(&update.Manifest{Release: update.Release{Board: "virt", Version: "9", Sequence: 1 << 40, Store: 1}, Parts: []update.Part{{Name: "root", Size: 1, Packed: 1, SHA256: fmt.Sprintf("%064x", 1)}}}, stranger)
	if err != nil {
		b.Fatal(err)
	}
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1000] ^= 1
	before := b.state()
	for want, archive := range map[string][]byte{"damaged": damaged, "not signed": append(other, 0), "cut off": good[:len(good)/2]} {
		b.push(archive)
		if s := b.ends(); s.Last.Outcome != update.Refused || !strings.Contains(s.Last.Why, want) || s.Version != before.Version || s.Slot != before.Slot {
			b.Errorf("an archive that is %s: %+v", want, s.Last)
		}
	}
}

// writer sends until end is called, which gives what was acknowledged. byTrial counts what was while the box said that a
// version is on trial.
func (b *box) writer(room string) (byTrial *int, end func() []string) {
	byTrial = new(int)
	stop := make(chan struct{})
	var sent []string
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			status, got := b.try("PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/trial-%d", room, i), `{"msgtype":"m.text","body":"reading"}`)
			if id, ok := got["event_id"].(string); ok && status == 200 {
				sent = append(sent, id)
				if _, s, _ := b.call("GET", nil); s.Trial {
					*byTrial++
				}
			}
		}
	})
	return byTrial, func() []string {
		close(stop)
		busy.Wait()
		return sent
	}
}
