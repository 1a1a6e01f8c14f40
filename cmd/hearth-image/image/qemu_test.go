package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBox boots an image of the board virt in QEMU with 256 MB, from UEFI on, and is its owner: it claims the hub with
// the code on the console, publishes and reads back, and cuts the power under load, again and again. What was
// acknowledged has to be there afterwards.
//
//	HEARTH_IMAGE    the image, not compressed; it is copied
//	HEARTH_UEFI     QEMU_EFI.fd of the package qemu-efi-aarch64
//	HEARTH_CUTS     how often the power is cut, 3 where it is not set
func TestBox(t *testing.T) {
	b := &box{T: t, dir: t.TempDir()}
	if os.Getenv("HEARTH_IMAGE") == "" {
		t.Skip("make image-test runs this")
	}
	cuts := 3
	if s := os.Getenv("HEARTH_CUTS"); s != "" {
		if _, err := fmt.Sscan(s, &cuts); err != nil {
			t.Fatal(err)
		}
	}
	b.disk = filepath.Join(b.dir, "disk")
	if out, err := exec.Command("cp", "--sparse=always", os.Getenv("HEARTH_IMAGE"), b.disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(b.disk, 2<<30); err != nil { // a card of 2 GB
		t.Fatal(err)
	}
	b.boot()
	code := regexp.MustCompile(`\n    ([a-z0-9]{4}(?:-[a-z0-9]{4}){3})\r?\n`).FindStringSubmatch(b.console())
	if code == nil {
		t.Fatalf("the console shows no claim code:\n%s", b.console())
	}
	b.claim(code[1])
	room := b.ask("POST", "/createRoom", `{"room_alias_name":"porch"}`, 200)["room_id"].(string)
	var sent []string
	for cut := range cuts {
		sent = append(sent, b.load(room, cut)...)
		b.cut()
		b.boot()
		b.readAll(room, sent)
	}
	t.Logf("%d power cuts, %d events acknowledged and there", cuts, len(sent))
}

type box struct {
	*testing.T
	dir, disk, url, token string
	boots                 int
	qemu                  *exec.Cmd
}

// boot starts the machine and waits until the hub answers from outside.
func (b *box) boot() {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	b.url = "http://" + addr
	b.boots++
	console, err := os.Create(b.log())
	if err != nil {
		b.Fatal(err)
	}
	defer console.Close()
	b.qemu = exec.CommandContext(b.Context(), "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "256", "-nographic", "-no-reboot",
		"-bios", os.Getenv("HEARTH_UEFI"), "-drive", "if=none,id=d,format=raw,cache=writeback,file="+b.disk, "-device", "virtio-blk-pci,drive=d",
		"-netdev", "user,id=n,restrict=on,hostfwd=tcp:"+addr+"-:8008", "-device", "virtio-net-pci,netdev=n,romfile=", "-device", "i6300esb", "-device", "virtio-rng-pci")
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
			if resp.StatusCode == 200 {
				break
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("the hub does not answer:\n%s", b.console())
		}
		time.Sleep(100 * time.Millisecond) // QEMU itself takes connections before the hub does
	}
	free := regexp.MustCompile(`memory left: (\d+) MB`).FindStringSubmatch(b.console())
	b.Logf("start %d: first answer after %.1f s; %q", b.boots, time.Since(began).Seconds(), free)
}

func (b *box) log() string { return filepath.Join(b.dir, fmt.Sprintf("console%d", b.boots)) }

func (b *box) console() string {
	text, err := os.ReadFile(b.log())
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
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

// claim makes the owner's account with the code.
func (b *box) claim(code string) {
	b.Helper()
	const account = `{"username":"alice","password":"a long enough password"%s}`
	session := b.ask("POST", "/register", fmt.Sprintf(account, ""), 401)["session"]
	auth := fmt.Sprintf(`,"auth":{"type":"m.login.registration_token","token":%q,"session":%q}`, code, session)
	status, got := b.try("POST", "/register", fmt.Sprintf(account, auth))
	if status == 401 { // a stage that wants nothing is left
		auth = fmt.Sprintf(`,"auth":{"type":"m.login.dummy","session":%q}`, session)
		status, got = b.try("POST", "/register", fmt.Sprintf(account, auth))
	}
	if status != 200 {
		b.Fatalf("claiming: %d %v", status, got)
	}
	b.token = got["access_token"].(string)
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
