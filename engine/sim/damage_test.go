package sim

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/room"
	"hearth/engine/store"
)

// damage flips a byte of the store's last file of a kind, or of its largest.
func damage(t *testing.T, files vfs.FS, kind string, at int) (name string) {
	t.Helper()
	list, err := files.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	size := int64(-1)
	for _, n := range list {
		info, err := files.Stat("data/store/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(n, kind) && (kind == ".log" || info.Size() > size) {
			name, size = n, info.Size()
		}
	}
	in, err := files.Open("data/store/" + name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	text[(at+len(text))%len(text)] ^= 0xff // from the end where at is negative
	out, err := files.Create("data/store/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = out.Write(text)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// A hub whose files are damaged comes up by itself, with all that can be read,
// says which file it was, and works. Nobody's old token opens it, and nothing
// new gets a position that was told before.
func TestDamagedHubComesUp(t *testing.T) {
	for _, c := range []struct {
		kind     string
		at       int
		memTable int  // a large one keeps all in the log
		steps    int  // of the script before the damage
		fits     bool // what is left is a state that once was, so all tables agree
	}{
		{".log", 3000, 4 << 20, 40, true},
		{"MANIFEST-", 60, memTable, 150, true},
		{".sst", -60, memTable, 150, false}, // without its end none of a table can be read
		{".sst", 5000, memTable, 150, false},
		{".sst", 9000, memTable, 150, false},
		{".sst", 15000, memTable, 150, false},
		{".sst", 25000, memTable, 150, false},
		{".sst", 40000, memTable, 150, false},
	} {
		mem := vfs.NewMem()
		h, err := openSaying(mem, c.memTable, nil)
		if err != nil {
			t.Fatal(err)
		}
		seed := setting(t, "HEARTH_SEED", rand.Uint64())
		l := &ledger{}
		a, err := newActor(h, l, &square{}, rand.New(rand.NewPCG(seed, 5)), "a")
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := h.Accounts.Login(a.num, account.NewSession{Device: "OLD"})
		for range c.steps {
			err = errors.Join(err, a.step())
		}
		told := h.Tip()
		if err := errors.Join(err, h.Close()); err != nil {
			t.Fatalf("HEARTH_SEED=%d: %v", seed, err)
		}
		name := damage(t, mem, c.kind, c.at)
		if c.kind == ".sst" { // met in use, by a process that ended there
			if err := store.WriteFile(mem, "data/store/damaged", []byte(name+"\n")); err != nil {
				t.Fatal(err)
			}
		}
		var said []string
		if h, err = openSaying(mem, c.memTable, &said); err != nil {
			t.Fatalf("HEARTH_SEED=%d: %s: %v", seed, c.kind, err)
		}
		if !strings.Contains(strings.Join(said, "\n"), strings.SplitN(name, "-", 2)[0]) && c.kind != "MANIFEST-" {
			t.Errorf("%s is not named: %q", name, said)
		}
		if c.fits {
			if err := verify(h); err != nil {
				t.Errorf("HEARTH_SEED=%d: %s: %v", seed, c.kind, err)
			}
		}
		t.Log(name, said)
		afterLoss(t, h, token.Access, told)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func afterLoss(t *testing.T, h *hub, token string, told uint64) {
	t.Helper()
	if _, err := h.Accounts.Authenticate([]byte(token)); !fault.Is(err, fault.UnknownToken) {
		t.Errorf("an old token: %v", err)
	}
	user, err := h.Accounts.Create(account.NewUser{Localpart: "after"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Accounts.Login(user, account.NewSession{}); err != nil {
		t.Error(err)
	}
	id, err := h.CreateRoom(&engine.NewRoom{Creator: "@after:" + server, Preset: "private_chat"})
	if err != nil {
		t.Fatal(err)
	}
	num, err := h.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: "@after:" + server, Content: []byte(`{"body":"after"}`)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Rooms.Lookup(sent)
	if err != nil || uint64(e.At.Pos) <= told {
		t.Errorf("position %d was told before the loss, the next is %v, %v", told, e.At, err)
	}
}
