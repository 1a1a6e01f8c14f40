package main

import (
	"bytes"
	"strings"
	"testing"

	"hearth/engine"
)

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Open(engine.Options{Dir: dir, Server: "hub.test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.CreateRoom(&engine.NewRoom{Creator: "@a:hub.test"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	s := streams{out: &out, err: &errs, env: func(string) string { return "" }}
	if code := run([]string{"verify", "--data-dir", dir}, s); code != exitDone || !strings.Contains(out.String(), "all agrees") {
		t.Errorf("%d %s %s", code, out.String(), errs.String())
	}
	if code := run([]string{"verify", "--data-dir", dir + "/none"}, s); code != exitLocal {
		t.Errorf("a folder that is not there: %d", code)
	}
}
