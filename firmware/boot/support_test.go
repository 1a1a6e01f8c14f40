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
