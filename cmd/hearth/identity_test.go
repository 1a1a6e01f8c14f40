package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hearth/cmd/internal/config"
)

// An identity service without a hub, on a folder that is its own and no other's.
func TestIdentityAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	begin := func(name string, more ...string) (url string, stop func() error) {
		t.Helper()
		args := append([]string{"--data-dir", dir, "--server-name", name, "--client-listen", "127.0.0.1:0", "--public-url", "https://" + name}, more...)
		c, _, err := config.Load(config.Source{Args: args, Env: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		c.Identity = true
		ctx, end := context.WithCancel(context.Background())
		r, w := io.Pipe()
		ended := make(chan error, 1)
		var errs bytes.Buffer
		go func() {
			err := runIdentity(ctx, c, streams{out: w, err: &errs, env: func(string) string { return "" }})
			w.CloseWithError(io.EOF)
			ended <- err
		}()
		line := make([]byte, 1024)
		n, _ := r.Read(line)
		url = regexp.MustCompile(`http://[0-9.:]+`).FindString(string(line[:n]))
		return url, func() error {
			end()
			return <-ended
		}
	}
	url, stop := begin("id.test")
	if status, got := call(t, "GET", url+"/_matrix/identity/v2/pubkey/ed25519:0", "", ""); status != 200 || got["public_key"] == "" {
		t.Error(status, got)
	}
	if status, got := call(t, "GET", url+"/_matrix/client/versions", "", ""); status != 404 {
		t.Error("it is a hub too", status, got)
	}
	if status, got := call(t, "POST", url+"/_matrix/identity/v2/account/register", "", `{"access_token":"x","matrix_server_name":"id.test"}`); status != 401 {
		t.Error(status, got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if url, stop := begin("other.test"); url != "" {
		t.Error("the folder serves another name")
	} else if err := stop(); err == nil || !strings.Contains(err.Error(), "id.test") {
		t.Error(err)
	}
	dir = filepath.Join(t.TempDir(), "hub")
	launch(t, nil, "--data-dir", dir).stop()
	if _, stop := begin("localhost"); stop() == nil {
		t.Error("it serves the folder of a hub")
	}
}
