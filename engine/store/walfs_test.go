package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The data folder of a process that died without closing anything opens, with
// everything that was committed: log files are longer than what is in them.
func TestFilledLogsReplay(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 300
	val := strings.Repeat("v", 3000) // several logs and stretches
	for i := range rows {
		b := s.NewBatch()
		b.Set(U64(Log.Key(nil), uint64(i)), fmt.Append(nil, i, val))
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "db"))); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Options{Dir: filepath.Join(dir, "copy")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	if err := c.ScanPrefix(Log.Prefix(), func(_, v []byte) (bool, error) {
		if string(v) != fmt.Sprint(n, val) {
			t.Fatalf("row %d is damaged", n)
		}
		n++
		return true, nil
	}); err != nil || n != rows {
		t.Fatal(n, err)
	}
}
