package sim

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/room"
)

// A hub whose disk was made read-only, or fails whatever is written, comes up
// with all that was acknowledged, to be read only, and says so.
func TestUnwritableDiskComesUpReadOnly(t *testing.T) {
	mem := vfs.NewMem()
	h, err := open(mem)
	if err != nil {
		t.Fatal(err)
	}
	seed := setting(t, "HEARTH_SEED", rand.Uint64())
	l := &ledger{}
	a, err := newActor(h, l, &square{}, rand.New(rand.NewPCG(seed, 4)), "a")
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if err := a.step(); err != nil {
			t.Fatalf("HEARTH_SEED=%d: %v", seed, err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, with := range []error{syscall.EROFS, syscall.EIO} {
		var wrote atomic.Int64
		files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
				wrote.Add(1)
				return with
			}
			return nil
		}))
		h, err := open(files)
		if err != nil {
			t.Fatalf("HEARTH_SEED=%d: %v: %v", seed, with, err)
		}
		if !h.ReadOnly() {
			t.Error("it does not say that it is read-only")
		}
		tried := wrote.Load()
		for _, step := range [...]func(*hub, *ledger) error{checkRegisters, checkMessages, checkEvents, checkJoined, checkTokens} {
			if err := step(h, l); err != nil {
				t.Errorf("HEARTH_SEED=%d: %v: %v", seed, with, err)
			}
		}
		for _, since := range []string{"", a.since} {
			if f, _, err := h.sync(a.user, a.num, a.device, since); err != nil || since == "" && len(f.list) == 0 {
				t.Errorf("HEARTH_SEED=%d: sync: %v", seed, err)
			}
		}
		refuse(t, h, a)
		if wrote.Load() != tried {
			t.Error("a read-only hub writes")
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// refuse tries what writes.
func refuse(t *testing.T, h *hub, a *actor) {
	t.Helper()
	num, err := h.Rooms.Find(a.rooms[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: a.user, Content: []byte(`{"body":"x"}`)}); !fault.Is(err, fault.Full) {
		t.Errorf("sending: %v", err)
	}
	if _, err := h.Accounts.SetData(a.num, 0, "sim.x", []byte(`{}`)); !fault.Is(err, fault.Full) {
		t.Errorf("account data: %v", err)
	}
	if _, _, err := h.Accounts.Login(a.num, account.NewSession{}); !fault.Is(err, fault.Full) {
		t.Errorf("login: %v", err)
	}
	if err := h.SetProfile(a.num, a.user, account.DisplayName, []byte(`"x"`)); !fault.Is(err, fault.Full) {
		t.Errorf("profile: %v", err)
	}
}
