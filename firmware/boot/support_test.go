package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReport asks a box for it as the hub does.
func TestReport(t *testing.T) {
	data := t.TempDir()
	if err := KeepCrash(filepath.Join(data, "crash"), time.Now(), errors.New("fell over"), []byte("the last words")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, SettingsFile), []byte("mail_server = \"smtp://secret\""), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	ctx, end := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- Report{Data: data, Version: "1.2.3"}.Answer(ctx, socket, os.Getuid()) }()
	var c net.Conn
	var err error
	for began := time.Now(); time.Since(began) < 10*time.Second; {
		if c, err = net.Dial("unix", socket); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(text), "version 1.2.3") || !strings.Contains(string(text), "the last words") || !strings.Contains(string(text), "==== kernel log") {
		t.Errorf("%v: %s", err, text)
	}
	if strings.Contains(string(text), "secret") {
		t.Error("the settings are in the report")
	}
	end()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// TestListeners: what waits for others is listed, of both kinds of addresses, and what speaks with others is not.
func TestListeners(t *testing.T) {
	dir := t.TempDir()
	const head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
	for name, text := range map[string]string{
		"tcp":  head + "   0: 00000000:1F48 00000000:0000 0A 0:0\n   1: 0100007F:9999 0100007F:1F48 01 0:0\n",
		"tcp6": head + "   0: 00000000000000000000000000000000:1F48 00000000000000000000000000000000:0000 0A 0:0\n   1: 0:075B 0:0000 0A 0:0\n",
		"udp6": head + "   0: 00000000000000000000000000000000:007B 00000000000000000000000000000000:0000 07 0:0\n   nonsense\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(listeners(dir), ", "); got != "tcp 1883, tcp 8008, udp 123" {
		t.Errorf("%s", got)
	}
}
