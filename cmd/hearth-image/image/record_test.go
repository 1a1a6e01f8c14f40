package image

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// told is one acknowledgement, and how many entries of the log a flush had ended then.
type told struct {
	Event   string `json:"event"`
	Entries uint64 `json:"entries"`
}

// TestRecord boots an image for the first time and loads it, while QEMU records all that is written to the card, flushes
// too; then it cuts the power. cmd/internal/powercut goes through the recording.
//
//	HEARTH_RECORD   folder that gets base, the card before, log, and told.json, what was acknowledged when
//	HEARTH_EVENTS   how many events have to be acknowledged, 1200 where it is not set
func TestRecord(t *testing.T) {
	dir := os.Getenv("HEARTH_RECORD")
	if dir == "" {
		t.Skip("make image-powercut runs this")
	}
	events := 1200
	if s := os.Getenv("HEARTH_EVENTS"); s != "" {
		if _, err := fmt.Sscan(s, &events); err != nil {
			t.Fatal(err)
		}
	}
	b := &box{T: t, dir: t.TempDir()}
	b.disk = filepath.Join(dir, "base")
	copyCard(t, os.Getenv("HEARTH_IMAGE"), b.disk)
	b.tell(ownersFile)
	card, log := filepath.Join(b.dir, "card"), filepath.Join(dir, "log")
	copyCard(t, b.disk, card)
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.drive = []string{"-blockdev", "driver=file,node-name=card,filename=" + card, "-blockdev", "driver=file,node-name=log,filename=" + log,
		"-blockdev", "driver=blklogwrites,node-name=d,file=card,log=log"}
	b.boot(200)
	b.claim(b.shown(claimCode))
	room := b.room()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := b.acknowledged(room, events, f)
	b.cut()
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "told.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	n := entries(t, f)
	t.Logf("%d events acknowledged, %d entries in the log", len(all), n)
	if n == 0 || all[len(all)-1].Entries == 0 {
		t.Error("the log was not written while the events were acknowledged")
	}
}

// copyCard copies an image to a card of 2 GB.
func copyCard(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(to, 2<<30); err != nil {
		t.Fatal(err)
	}
}

// entries is how many entries of a log a flush has ended, as its first sector says.
func entries(t *testing.T, log io.ReaderAt) uint64 {
	var b [24]byte
	if _, err := log.ReadAt(b[:], 0); err != nil {
		t.Error(err)
	}
	return binary.LittleEndian.Uint64(b[16:])
}

// acknowledged has people send into the room and a thing-like client publish what is kept, until enough events were
// acknowledged. What has been flushed when an acknowledgement is read was flushed before a cut at that entry.
func (b *box) acknowledged(room string, events int, log io.ReaderAt) (all []told) {
	heard := make(chan told, 64)
	stop := make(chan struct{})
	defer close(stop)
	for w := range 3 {
		go func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, bytes.Repeat([]byte("reading "), 1+i%40))
				status, got := b.try("PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/r-%d-%d", room, w, i), body)
				if status != 200 {
					return
				}
				select {
				case heard <- told{got["event_id"].(string), entries(b.T, log)}:
				case <-stop:
					return
				}
			}
		}()
	}
	go b.keepPublishing(stop)
	for late := time.After(10 * time.Minute); len(all) < events; {
		select {
		case one := <-heard:
			all = append(all, one)
		case <-late:
			b.Fatalf("%d events were acknowledged in ten minutes:\n%s", len(all), b.console())
		}
	}
	return all
}

// keepPublishing publishes retained values by MQTT, so that their part of the store is written to as well.
func (b *box) keepPublishing(stop chan struct{}) {
	c, err := net.DialTimeout("tcp", b.things, 10*time.Second)
	if err != nil {
		return // the events are what is counted
	}
	defer c.Close()
	send := func(kind byte, body string) error {
		_, err := io.WriteString(c, packet(kind, body))
		return err
	}
	if send(0x10, field("MQTT")+"\x04\xc2\x00\x3c"+field("values")+field("alice")+field(b.token)) != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for i := 0; ; i++ {
		if send(0x33, field(fmt.Sprintf("porch/value/%d", i%20))+string([]byte{byte(i >> 8), byte(i) | 1})+fmt.Sprint(i)) != nil {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
