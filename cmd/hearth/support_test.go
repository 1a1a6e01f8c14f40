package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unpack gives the files of a bundle by their names.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "hearth-support/")] = string(text)
	}
}

// box answers as the box around a hub does.
func box(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "box")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	}()
	return path
}

// TestSupport: the file for who helps has what helps and no secret, whichever way it is asked for.
func TestSupport(t *testing.T) {
	const password, words = "a long enough password", "meet me behind the barn"
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("shared-among-friends\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := launch(t, nil, "--data-dir", dir, "--registration-shared-secret-file", secret, "--sms-webhook", "https://me:sesame@sms.example/hook/Zx81?key=opensesame", "--public-url", "http://127.0.0.1:1/")
	code := regexp.MustCompile(`[a-z2-7]{4}(-[a-z2-7]{4}){3}`).FindString(h.greet)
	t.Setenv(boxSocket, box(t, "crash 1: panic\nThe claim code "+code+" was here, and qqqq-2222-wwww-3333.\nAuthorization: Bearer abcdef\nbox_wifi_password = \"open sesame\"\nmail smtp://hub:sesame@mail.example\n"))
	before := filepath.Join(t.TempDir(), "before.tar.gz")
	if got := ask(run, "", nil, "support", before, "--data-dir="+dir); got.code != 0 {
		t.Fatal(got)
	}
	if got := manage(password+"\n", "add", "alice", "--admin", "--data-dir="+dir); !strings.HasPrefix(got, "0") {
		t.Fatal(got)
	}
	manage(password+"\n", "add", "bob", "--data-dir="+dir)
	_, alice := login(t, h, "alice", password)
	_, bob := login(t, h, "bob", password)
	status, room := call(t, "POST", h.url+"/_matrix/client/v3/createRoom", alice, `{}`)
	if status != 200 {
		t.Fatal(room)
	}
	if status, got := call(t, "PUT", fmt.Sprintf("%s/_matrix/client/v3/rooms/%s/send/m.room.message/1", h.url, room["room_id"]), alice, `{"msgtype":"m.text","body":"`+words+`"}`); status != 200 {
		t.Fatal(got)
	}
	fetch := func(token, what string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest("GET", h.url+"/_hearth/client/v1/"+what, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, b
	}
	for _, what := range []string{"support", "metrics"} {
		if resp, _ := fetch(bob, what); resp.StatusCode != 403 {
			t.Errorf("%s is given to a user: %d", what, resp.StatusCode)
		}
	}
	resp, after := fetch(alice, "support")
	if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Content-Disposition"), "hearth-support-") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if _, figures := fetch(alice, "metrics"); !bytes.Contains(figures, []byte("\nhearth_log_position ")) {
		t.Errorf("metrics: %s", figures)
	}
	first, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"the claim code": code, "a password": password, "a message": words, "alice's token": alice, "bob's token": bob,
		"the shared secret": "shared-among-friends", "the way to send texts": "sesame", "where texts go": "Zx81", "the box's code": "qqqq-2222", "a header": "abcdef"}
	for i, part := range strings.Fields(string(keys)) {
		if len(part) > 20 {
			secrets[fmt.Sprintf("part %d of the signing key", i)] = part
		}
	}
	for when, b := range map[string][]byte{"before": first, "after": after} {
		files := unpack(t, b)
		for name, wants := range map[string][]string{
			"hub.txt": {"Hearth", "log at position", "MemAvailable"}, "settings.txt": {"sms_webhook = https://sms.example (and more)", "registration = token"},
			"metrics.txt": {"hearth_up_seconds"}, "box.txt": {"crash 1: panic", "mail.example"},
		} {
			for _, want := range wants {
				if !strings.Contains(files[name], want) {
					t.Errorf("%s: %s lacks %q: %s", when, name, want, files[name])
				}
			}
		}
		if _, ok := files["log.txt"]; !ok && when == "after" {
			t.Error("there is no log")
		}
		for name, text := range files {
			for what, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s has %s: %s", when, name, what, text)
				}
			}
		}
	}
}
