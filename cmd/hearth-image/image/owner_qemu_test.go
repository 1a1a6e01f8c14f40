package image

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// claimCode is how the console shows it.
var claimCode = regexp.MustCompile(`\n    ([a-z0-9]{4}(?:-[a-z0-9]{4}){3})\r?\n`)

// allListeners is where a box can be reached: by MQTT and HTTP, for the time, and by its name, once the hub has found the
// network, for which it looks every few seconds.
const allListeners = "tcp 1883\ntcp 8008\nudp 123\nudp 5353"

// helped fetches the file for who helps, and looks into it for what only the box around the hub knows, and for secrets.
func (b *box) helped() {
	b.Helper()
	var text, listeners string
	for deadline := time.Now().Add(time.Minute); listeners != allListeners; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			b.Errorf("the box can be reached at\n%s", listeners)
			break
		}
		text = b.support()
		_, listeners, _ = strings.Cut(text, "==== listeners\n")
		listeners, _, _ = strings.Cut(listeners, "====")
		listeners = strings.TrimSpace(listeners)
	}
	for _, want := range []string{"==== kernel log", "hearth-box:", "==== card", "hub box.example", "hearth_disk_written_bytes_total", "writes to vda"} {
		if !strings.Contains(text, want) {
			b.Errorf("the file for who helps lacks %q:\n%s", want, text)
		}
	}
	for _, secret := range []string{b.token, password, `"body":"reading"`} {
		if strings.Contains(text, secret) {
			b.Errorf("the file for who helps has %q", secret)
		}
	}
}

// support fetches the file for who helps.
func (b *box) support() string {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), "GET", b.url+"/_hearth/client/v1/support", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		b.Fatalf("the file for who helps: %d, %v", resp.StatusCode, err)
	}
	var all strings.Builder
	for r := tar.NewReader(z); ; {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err == nil {
			_, err = io.Copy(&all, r)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// lose is an owner who has lost the password, and has the card in hand; where the box can mend its card, that lost its
// first blocks on the way. All that was there is there afterwards.
func (b *box) lose(room string, sent []string) {
	b.Helper()
	b.cut()
	at := b.tell("box_reset = \"owner\"\n")
	if os.Getenv("HEARTH_CHECKER") != "" {
		b.spoil(8 << 10) // what there are copies of
	}
	b.boot(http.StatusOK)
	code := b.shown(claimCode)
	if text := b.told(at); strings.Contains(text, "owner") {
		b.Errorf("the wish for a new owner is still on the card:\n%s", text)
	}
	b.readAll(room, sent)
	old := b.token
	b.claim(code)
	b.readAll(room, sent)
	b.token, old = old, b.token
	b.ask("GET", "/account/whoami", "", http.StatusUnauthorized)
	b.token = old
}
