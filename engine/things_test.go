package engine

import (
	"net/netip"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/thing"
)

func TestThingIsUserDeviceAndSecret(t *testing.T) {
	h := open(t)
	n, err := h.AddThing("Porch", []thing.Grant{{Filter: "home/#", Access: thing.Read}})
	h.ok(err)
	if n.ID != "@porch:hub" || n.Secret == "" {
		t.Fatalf("%+v", n)
	}
	one, err := h.Things.Authenticate("porch", n.Secret, netip.Addr{})
	h.ok(err)
	d, err := h.Accounts.Device(one.User, thing.DeviceID)
	h.ok(err)
	if d.Num != one.DeviceNum {
		t.Error("the device is another")
	}
	for name, want := range map[string]fault.Kind{"porch": fault.UserInUse, "a": fault.UserInUse, "x/y": fault.BadUsername} {
		if _, err := h.AddThing(name, nil); !fault.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var ended []string
	h.OnRevoke(func(name string) { ended = append(ended, name) })
	h.ok(h.RevokeThing("porch"))
	if _, err := h.Things.Authenticate("porch", n.Secret, netip.Addr{}); err == nil || len(ended) != 1 {
		t.Error("it is revoked and let in", ended)
	}
	if _, err := h.Accounts.Device(one.User, thing.DeviceID); !fault.Is(err, fault.NotFound) {
		t.Error("its device is left:", err)
	}
	again, err := h.AddThing("porch", nil)
	h.ok(err)
	if two, err := h.Things.Authenticate("porch", again.Secret, netip.Addr{}); err != nil || two.User != one.User || len(two.Allow) != 0 {
		t.Errorf("%+v %v", two, err)
	}
	if _, err := h.Things.Authenticate("porch", n.Secret, netip.Addr{}); err == nil {
		t.Error("the old secret is good again")
	}
	h.ok(h.Verify(func(line string) { t.Error(line) }))
}

func TestApproving(t *testing.T) {
	h := open(t)
	addr := netip.MustParseAddr("192.168.1.4")
	if _, err := h.ApproveThing("lamp", nil); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	_, err := h.Things.Knock("lamp", "c", "a-good-secret", addr)
	h.ok(err)
	n, err := h.ApproveThing("lamp", nil)
	h.ok(err)
	if _, err := h.Things.Authenticate("lamp", "a-good-secret", netip.Addr{}); err != nil || n.Secret != "" {
		t.Error(err)
	}
	_, err = h.Things.Knock("bell", "c", "short", addr)
	h.ok(err)
	if n, err = h.ApproveThing("bell", nil); err != nil || n.Secret == "" || len(h.Things.Knocks()) != 0 {
		t.Errorf("%+v %v", n, err)
	}
}

// A thing that was added is whole after a power cut, and one that was revoked
// stays out.
func TestThingsAfterPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	h := openOn(t, fs)
	kept, err := h.AddThing("kept", nil)
	h.ok(err)
	gone, err := h.AddThing("gone", nil)
	h.ok(err)
	h.ok(h.RevokeThing("gone"))
	after := openOn(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	defer func() { h.ok(after.Close()); h.ok(h.Close()) }()
	one, err := after.Things.Authenticate("kept", kept.Secret, netip.Addr{})
	h.ok(err)
	if d, err := after.Accounts.Device(one.User, thing.DeviceID); err != nil || d.Num != one.DeviceNum {
		t.Error("half a thing:", err)
	}
	if _, err := after.Things.Authenticate("gone", gone.Secret, netip.Addr{}); !fault.Is(err, fault.Forbidden) {
		t.Error("a revoked thing is back:", err)
	}
}
