package image

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hearth/firmware/card"
	"hearth/firmware/fat"
)

// TestBox boots an image of the board virt in QEMU with 256 MB, from UEFI on, and is its owner: it claims the hub with
// the code on the console, publishes and reads back, and cuts the power under load, again and again. What was
// acknowledged has to be there afterwards. At last it spoils the data partition, so that the box mends it, and once more so
// that it cannot, and sees the page that says so.
//
//	HEARTH_IMAGE    the image, not compressed; it is copied
//	HEARTH_UEFI     QEMU_EFI.fd of the package qemu-efi-aarch64
//	HEARTH_CHECKER  set where the image has an e2fsck
//	HEARTH_CUTS     how often the power is cut, 3 where it is not set; a quarter of them falls to TestBoxUpdates, where that runs
func TestBox(t *testing.T) {
	b := newBox(t)
	at := b.tell(ownersFile)
	b.boot(http.StatusOK)
	if text := b.told(at); strings.Contains(text, "box.example") {
		t.Errorf("the owner's settings are still on the boot partition:\n%s", text)
	}
	code := b.shown(claimCode)
	b.shown(regexp.MustCompile(`This hub is at (http://[0-9.]+:8008)\r?\n`))
	b.shown(regexp.MustCompile(`(█▀+▀█)`)) // the code for phones
	b.claim(code)
	room := b.room()
	b.mqtt()
	first, _ := cuts(t)
	sent := b.cuts(room, b.load(room, -1), first)
	b.helped()
	b.lose(room, sent)
	b.cut()
	b.spoil(64 << 10) // the root folder too
	b.boot(http.StatusServiceUnavailable)
}

// TestBoxUpdates takes a box to a second version, and to a third that is bad, before it cuts the power.
func TestBoxUpdates(t *testing.T) {
	if os.Getenv("HEARTH_IMAGE") != "" && os.Getenv("HEARTH_KEY") == "" {
		t.Skip("the image takes no updates")
	}
	b := newBox(t)
	const code = "owne-rsow-ncod-e234"
	b.tell("box_claim_code = \"" + code + "\"\n" + ownersFile)
	b.boot(http.StatusOK)
	if shown := b.shown(claimCode); shown != code {
		t.Errorf("the claim code is %s, and the owner wanted %s", shown, code)
	}
	b.claim(code)
	room := b.room()
	const wrong = "server_name = \"other.example\"\n"
	at := b.tell(wrong)
	sent := append(b.load(room, -1), b.updates(room)...)
	b.shown(regexp.MustCompile(`(this hub is box.example for ever)`))
	if !strings.Contains(b.told(at), wrong) {
		t.Error("settings that were not taken are gone from the boot partition")
	}
	b.readAll(room, sent)
	b.mqtt()
	_, rest := cuts(t)
	b.cuts(room, sent, rest)
}

// newBox is one that is not switched on, with a card of 2 GB. Boxes run side by side: each waits most of its time.
func newBox(t *testing.T) *box {
	if os.Getenv("HEARTH_IMAGE") == "" {
		t.Skip("make image-test runs this")
	}
	t.Parallel()
	b := &box{T: t, dir: t.TempDir()}
	b.disk = filepath.Join(b.dir, "disk")
	copyCard(t, os.Getenv("HEARTH_IMAGE"), b.disk)
	return b
}

// cuts is how often the power is cut of a box that is as it was, and of one that was updated.
func cuts(t *testing.T) (first, updated int) {
	all := 3
	if s := os.Getenv("HEARTH_CUTS"); s != "" {
		if _, err := fmt.Sscan(s, &all); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getenv("HEARTH_KEY") != "" {
		updated = all / 4
	}
	return all - updated, updated
}

// room makes the room that the owner's file maps a topic to.
func (b *box) room() string {
	b.Helper()
	return b.ask("POST", "/createRoom", `{"room_alias_name":"porch"}`, 200)["room_id"].(string)
}

// cuts cuts the power n times while events are sent, looks for all that were acknowledged, those given too, and gives their ids.
func (b *box) cuts(room string, sent []string, n int) []string {
	b.Helper()
	for cut := range n {
		sent = append(sent, b.load(room, cut)...)
		b.cut()
		b.boot(http.StatusOK)
		b.readAll(room, sent)
	}
	b.Logf("%d power cuts, %d events acknowledged and there", n, len(sent))
	return sent
}

// ownersFile is what the owner writes before the first start.
const ownersFile = `box_hostname = "box"
server_name = "box.example"
rate_limits = "off"

[[mapping]]
topic = "porch/light"
room = "#porch:box.example"
mode = "event"
type = "m.room.message"
`

// tell writes the owner's file as a computer does, and gives its place.
func (b *box) tell(text string) int64 {
	f, err := os.OpenFile(b.disk, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	v, err := fat.Open(io.NewSectionReader(f, card.Grain, 1<<30))
	if err != nil {
		b.Fatal(err)
	}
	owner, err := v.Find("hearth.txt")
	if err != nil {
		b.Fatal(err)
	}
	at := owner.At + card.Grain
	blank := bytes.Repeat([]byte(" "), len(intro))
	copy(blank, text)
	blank[len(blank)-1] = '\n'
	if _, err := f.WriteAt(blank, at); err != nil {
		b.Fatal(err)
	}
	return at
}

// told reads the owner's file on the card.
func (b *box) told(at int64) string {
	f, err := os.Open(b.disk)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	text := make([]byte, len(intro))
	if _, err := f.ReadAt(text, at); err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// spoil makes the data partition one that cannot be mounted: it takes its first bytes.
func (b *box) spoil(n int) {
	f, err := os.OpenFile(b.disk, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	c, err := card.Read(f, 2<<30/512)
	if err != nil {
		b.Fatal(err)
	}
	data := c.Part(c.Plan.Data)
	if data.Begin+data.Size < 2<<30-3*card.Grain {
		b.Errorf("the data partition ends at %d: it has not got the rest of the disk", data.Begin+data.Size)
	}
	if _, err := f.WriteAt(make([]byte, n), data.Begin); err != nil {
		b.Fatal(err)
	}
}

// mqtt connects as alice with her access token, subscribes, publishes, and waits for both acknowledgements and the message.
func (b *box) mqtt() {
	b.Helper()
	c, err := net.DialTimeout("tcp", b.things, 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	connect := packet(0x10, field("MQTT")+"\x04\xc2\x00\x3c"+field("test")+field("alice")+field(b.token))
	subscribe := packet(0x82, "\x00\x01"+field("porch/light")+"\x01")
	if _, err := io.WriteString(c, connect+subscribe+packet(0x32, field("porch/light")+"\x00\x02on")); err != nil {
		b.Fatal(err)
	}
	seen := map[byte]bool{}
	for in := bufio.NewReader(c); !seen[2] || !seen[9] || !seen[4] || !seen[3]; {
		kind, body, err := received(in)
		if err != nil {
			b.Fatalf("after %v: %v", seen, err)
		}
		if kind == 2 && body[1] != 0 || kind == 9 && body[2] > 2 || kind == 3 && !bytes.HasSuffix(body, []byte("on")) {
			b.Fatalf("packet %x: %q", kind, body)
		}
		seen[kind] = true
	}
}

// connects waits until the box lets alice in by MQTT.
func (b *box) connects() {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // QEMU itself takes connections before the hub does
		kind, body, err := b.connect()
		if err == nil && kind == 2 && body[1] == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("MQTT: packet %x %x, %v\n%s", kind, body, err, b.console())
		}
	}
}

// connect gives the first packet that answers alice.
func (b *box) connect() (kind byte, body []byte, err error) {
	c, err := net.DialTimeout("tcp", b.things, 10*time.Second)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, nil, err
	}
	if _, err := io.WriteString(c, packet(0x10, field("MQTT")+"\x04\xc2\x00\x3c"+field("first")+field("alice")+field(b.token))); err != nil {
		return 0, nil, err
	}
	return received(bufio.NewReader(c))
}

// packet is one of MQTT, with at most 16,383 bytes of body.
func packet(kind byte, body string) string {
	n := []byte{byte(len(body))}
	if len(body) > 127 {
		n = []byte{byte(len(body)) | 0x80, byte(len(body) >> 7)}
	}
	return string([]byte{kind}) + string(n) + body
}

// field is a string as MQTT has it.
func field(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

// received reads one packet of MQTT.
func received(in *bufio.Reader) (kind byte, body []byte, err error) {
	kind, err = in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(in) // the same as MQTT's
	if err != nil {
		return 0, nil, err
	}
	if n < 2 || n > 1<<14 {
		return 0, nil, fmt.Errorf("a packet of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(in, body)
	return kind >> 4, body, err
}

type box struct {
	*testing.T
	dir, disk, url, token string
	things                string    // where MQTT is
	drive                 []string  // what QEMU is told of the disk d; nil: that it is the file
	pi                    bool      // a Raspberry Pi 3, and not the board virt
	last                  time.Time // of the last update that ended
	boots                 int
	qemu                  *exec.Cmd
}

// address is one that nobody listens on.
func (b *box) address() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// boot starts the machine and waits until it answers from outside, with a status.
func (b *box) boot(want int) {
	b.Helper()
	addr := b.address()
	b.url, b.things = "http://"+addr, b.address()
	b.boots++
	console, err := os.Create(b.log())
	if err != nil {
		b.Fatal(err)
	}
	defer console.Close()
	network := "user,id=n,restrict=on,hostfwd=tcp:" + addr + "-:8008,hostfwd=tcp:" + b.things + "-:1883"
	machine := b.virt
	if b.pi {
		machine = b.raspberry
	}
	b.qemu = exec.CommandContext(b.Context(), "qemu-system-aarch64", append(machine(), "-netdev", network, "-nographic")...)
	b.qemu.Stdout, b.qemu.Stderr = console, console
	began := time.Now()
	if err := b.qemu.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { b.cut() })
	client := &http.Client{Timeout: 2 * time.Second}
	for deadline := began.Add(5 * time.Minute); ; {
		resp, err := client.Get(b.url + "/_matrix/client/versions")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == want {
				break
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("the hub does not answer:\n%s", b.console())
		}
		time.Sleep(100 * time.Millisecond) // QEMU itself takes connections before the hub does
	}
	said := fmt.Sprintf("start %d: first answer after %.1f s", b.boots, time.Since(began).Seconds())
	if b.token != "" && want == http.StatusOK {
		b.connects()
		said += fmt.Sprintf(", MQTT after %.1f s", time.Since(began).Seconds())
	}
	b.Logf("%s; %q", said, regexp.MustCompile(`memory left: \d+ MB`).FindString(b.console()))
}

// virt is what QEMU is told of the board virt.
func (b *box) virt() []string {
	disk := b.drive
	if disk == nil {
		disk = []string{"-drive", "if=none,id=d,format=raw,cache=writeback,file=" + b.disk}
	}
	return append(disk, "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "256", "-bios", os.Getenv("HEARTH_UEFI"), "-device", "virtio-blk-pci,drive=d",
		"-device", "virtio-net-pci,netdev=n,romfile=", "-device", "i6300esb", "-device", "virtio-rng-pci")
}

func (b *box) log() string { return filepath.Join(b.dir, fmt.Sprintf("console%d", b.boots)) }

func (b *box) console() string {
	text, err := os.ReadFile(b.log())
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// shown waits for words on the console, and gives the part in parentheses.
func (b *box) shown(words *regexp.Regexp) string {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // what QEMU writes cannot be waited for
		if found := words.FindStringSubmatch(b.console()); found != nil {
			return found[1]
		}
		if time.Now().After(deadline) {
			b.Fatalf("the console does not show %s:\n%s", words, b.console())
		}
	}
}

// cut ends the machine without a warning.
func (b *box) cut() {
	if b.qemu != nil {
		_ = b.qemu.Process.Kill()
		_ = b.qemu.Wait()
		b.qemu = nil
	}
}

// try makes one request, and gives status 0 where nobody answered.
func (b *box) try(method, path, body string) (int, map[string]any) {
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+"/_matrix/client/v3"+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if b.token != "" {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	got := map[string]any{}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&got); err != nil {
		b.Fatalf("%s %s: %q: %v", method, path, text, err)
	}
	return resp.StatusCode, got
}

func (b *box) ask(method, path, body string, want int) map[string]any {
	b.Helper()
	status, got := b.try(method, path, body)
	if status != want {
		b.Fatalf("%s %s: %d %v", method, path, status, got)
	}
	return got
}

// claim makes the owner's account on the page for that, with the code, and logs in.
func (b *box) claim(code string) {
	b.Helper()
	resp, err := http.PostForm(b.url+"/_hearth/setup", url.Values{"code": {code}, "user": {"alice"}, "password": {password}, "again": {password}})
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(page, []byte("<b>@alice:box.example</b>")) {
		b.Fatalf("claiming: %d %v %s", resp.StatusCode, err, page)
	}
	b.login()
}

const password = "a long enough password"

func (b *box) login() {
	b.Helper()
	b.token = b.ask("POST", "/login", fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":%q}`, password), 200)["access_token"].(string)
}

// load sends for a while and gives the ids that were acknowledged. The last ones are on their way when it returns, as
// the power is cut then.
func (b *box) load(room string, round int) (sent []string) {
	acknowledged := make(chan string, 1000)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				path := fmt.Sprintf("/rooms/%s/send/m.room.message/%d-%d-%d", room, round, w, i)
				status, got := b.try("PUT", path, `{"msgtype":"m.text","body":"reading"}`)
				if status != 200 {
					return
				}
				acknowledged <- got["event_id"].(string)
			}
		}()
	}
	for range 40 {
		select {
		case id := <-acknowledged:
			sent = append(sent, id)
		case <-time.After(time.Minute):
			b.Fatalf("nothing is acknowledged any more:\n%s", b.console())
		}
	}
	return sent
}

// readAll looks for every event that was acknowledged.
func (b *box) readAll(room string, sent []string) {
	b.Helper()
	for _, id := range sent {
		b.ask("GET", "/rooms/"+room+"/event/"+id, "", 200)
	}
}
