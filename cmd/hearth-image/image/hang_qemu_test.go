package image

import (
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/firmware/card"
	"hearth/firmware/fat"
	"hearth/firmware/update"
)

// hangPatience is how long the driver waits in this test, where five minutes would show nothing more.
const hangPatience = time.Minute

// TestBoxHang updates a box to versions that come to no first program: the kernel hangs as its first deed, when UEFI's own
// timer has ended; the loader cannot load it; it waits for its root for ever, when its driver has the watchdog already.
// Each time the version before has to come back by itself, with all that was acknowledged.
func TestBoxHang(t *testing.T) {
	if os.Getenv("HEARTH_IMAGE") != "" && os.Getenv("HEARTH_KEY") == "" {
		t.Skip("the image takes no updates")
	}
	b := newBox(t)
	b.hurry(hangPatience)
	b.tell(ownersFile)
	b.boot(http.StatusOK)
	b.claim(b.shown(claimCode))
	room := b.room()
	sent := b.load(room, -1)
	first, key := b.state(), b.key()
	for i, c := range []struct {
		name   string
		change func(p *parts)
		finds  int    // kernels that find the watchdog armed, with that of the version before
		shows  string // what the console shows of it
	}{
		{"hangs when UEFI has ended", func(p *parts) { b.kernel(p, hangs) }, 1, ""},
		{"cannot be loaded", func(p *parts) { b.kernel(p, unloadable) }, 1, "Failed to execute"},
		{"hangs before the first program", func(p *parts) {
			p.manifest.Cmdline = strings.NewReplacer("rootwait=60", "rootwait", "heartbeat=120", "heartbeat=20").Replace(p.manifest.Cmdline) + " root=/dev/nowhere"
		}, 2, ""},
	} {
		archive := b.changed(key, os.Getenv("HEARTH_PROGRAMS"), "2.0."+string('0'+byte(i)), int64(i)+1, c.change)
		seen := len(b.console())
		began := time.Now()
		b.push(archive)
		s := b.ends()
		if s.Version != first.Version || s.Slot != first.Slot || s.Last.Outcome != update.RolledBack || !strings.Contains(s.Last.Why, "did not start") {
			b.Fatalf("a version that %s: %+v\n%s", c.name, s, b.console())
		}
		b.Logf("back from a version that %s in %.0f s", c.name, time.Since(began).Seconds())
		// A machine that is busy may be reset once more, before the kernel of the version before has found the watchdog.
		if shown := b.console()[seen:]; strings.Count(shown, "UEFI firmware") < 2 || strings.Count(shown, "nowayout already set") != c.finds || !strings.Contains(shown, c.shows) {
			b.Errorf("a version that %s: the console shows\n%s", c.name, shown)
		}
		b.readAll(room, sent)
		sent = append(sent, b.load(room, i)...)
	}
	b.Logf("%d events acknowledged and there", len(sent))
	b.cut()
}

// hurry has the driver on the card wait for another time.
func (b *box) hurry(wait time.Duration) {
	b.Helper()
	code, err := driverCode(filepath.Join(os.Getenv("HEARTH_PROGRAMS"), "efi"))
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(b.disk, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	v, err := fat.Open(io.NewSectionReader(f, card.Grain, 1<<30))
	if err != nil {
		b.Fatal(err)
	}
	file, err := v.Find(driverFile)
	if err != nil {
		b.Fatal(err)
	}
	changed := wrapDriver(code, wait)
	if file.Size != int64(len(changed)) {
		b.Fatalf("the driver on the card has %d bytes, and not %d", file.Size, len(changed))
	}
	if _, err := f.WriteAt(changed, card.Grain+file.At); err != nil {
		b.Fatal(err)
	}
}

// kernel changes the kernel of an archive.
func (b *box) kernel(p *parts, change func(image []byte)) {
	b.Helper()
	path := p.files[update.PartKernel]
	image, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	change(image)
	if err := os.WriteFile(path, image, 0o644); err != nil {
		b.Fatal(err)
	}
}

// hangs has a kernel jump to where it is, for ever. The second word of its header is the branch to the place at which
// what was UEFI's program enters the kernel, once it has ended UEFI.
func hangs(image []byte) {
	const self = 0x14000000 // B .
	entry := 4 + 4*(binary.LittleEndian.Uint32(image[4:])&0x3ffffff)
	binary.LittleEndian.PutUint32(image[entry:], self)
}

// unloadable takes the mark away by which UEFI knows a program.
func unloadable(image []byte) {
	clear(image[binary.LittleEndian.Uint32(image[0x3c:]):][:4])
}
