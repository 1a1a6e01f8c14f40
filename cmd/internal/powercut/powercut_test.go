package powercut

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// record writes a log as QEMU does.
func record(entries ...Write) []byte {
	head := make([]byte, sector)
	binary.LittleEndian.PutUint64(head, magic)
	binary.LittleEndian.PutUint64(head[8:], version)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(entries)))
	binary.LittleEndian.PutUint32(head[24:], sector)
	for i, w := range entries {
		e := make([]byte, sector)
		binary.LittleEndian.PutUint64(e, uint64(w.At/sector))
		binary.LittleEndian.PutUint64(e[8:], uint64(w.Length/sector))
		var flags uint64
		if w.Flush {
			flags |= flagFlush
		}
		if w.Discard {
			flags |= flagDiscard
		}
		binary.LittleEndian.PutUint64(e[16:], flags)
		head = append(head, e...)
		if !w.Discard {
			head = append(head, bytes.Repeat([]byte{byte(i + 1)}, int(w.Length))...)
		}
	}
	return head
}

// TestCut: what was flushed is on every disk, what was not may be, sector by sector, and nothing else is.
func TestCut(t *testing.T) {
	log := bytes.NewReader(record(Write{At: 0, Length: 8192}, Write{At: 4096, Length: 512}, Write{Flush: true},
		Write{At: 512, Length: 1024}, Write{At: 8192, Length: 4096}, Write{At: 0, Length: 1 << 20, Discard: true}, Write{Flush: true}))
	all, err := Parse(log)
	if err != nil || len(all) != 7 || !all[2].Flush || !all[5].Discard || all[4].At != 8192 {
		t.Fatalf("%+v %v", all, err)
	}
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, bytes.Repeat([]byte{0xee}, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(base, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	d, err := Load(f, 1<<20)
	if err != nil || d.blocks[0][7] != 0xee {
		t.Fatalf("%v", err)
	}
	for _, w := range all[:2] {
		if err := d.Apply(log, w); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[[4]byte]bool{}
	for seed := range uint64(200) {
		to, err := os.Create(filepath.Join(t.TempDir(), "cut"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Cut(to, log, all[3:6], rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(to.Name())
		if err != nil || len(got) != 1<<20 {
			t.Fatal(len(got), err)
		}
		if to.Close(); got[0] != 1 || got[4096] != 2 || got[4096+512] != 1 || got[8191] != 1 || !zero(got[12288:16384]) {
			t.Fatalf("seed %d: what was flushed is not there", seed)
		}
		for at := 0; at < 12288; at += sector {
			if at != 512 && at != 1024 && at < 8192 {
				continue
			}
			if b := got[at]; b != 1 && b != 4 && b != 5 && b != 0 || !bytes.Equal(got[at:at+sector], bytes.Repeat([]byte{b}, sector)) {
				t.Fatalf("seed %d: the sector at %d holds %x", seed, at, b)
			}
		}
		seen[[4]byte{got[512], got[1024], got[8192], got[12287]}] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d different disks of three writes, two of which can be torn", len(seen))
	}
	for _, bad := range [][]byte{nil, make([]byte, 600), record(Write{Flush: true})[:520]} {
		if _, err := Parse(bytes.NewReader(bad)); err == nil {
			t.Errorf("a log of %d bytes was read", len(bad))
		}
	}
}
