package card

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLayouts makes both cards, reads them back, and grows them.
func TestLayouts(t *testing.T) {
	for _, loader := range []string{UEFI, Raspberry} {
		plan, err := PlanOf(loader)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		made := New(plan, "some board")
		if err := f.Truncate(made.Size() + 100<<20); err != nil {
			t.Fatal(err)
		}
		if err := made.Write(f, f.Sync); err != nil {
			t.Fatal(err)
		}
		sectors := uint64(made.Size()+100<<20) / 512
		c, err := Read(f, sectors)
		if err != nil {
			t.Fatalf("%s: %v", loader, err)
		}
		for i, p := range c.Parts {
			if p != made.Parts[i] || p.Begin%Grain != 0 {
				t.Errorf("%s: %+v, made as %+v", loader, p, made.Parts[i])
			}
		}
		for slot := range 2 {
			if got, err := plan.Slot(plan.Root[slot]); err != nil || got != slot || c.Part(plan.Root[slot]).Name != "root "+string("AB"[slot]) {
				t.Errorf("%s: the root of slot %d is %+v, %v", loader, slot, c.Part(plan.Root[slot]), err)
			}
		}
		if c.Part(plan.Data).Name != "data" || c.Grow(uint64(made.Size())/512+10) {
			t.Errorf("%s: data is %+v", loader, c.Part(plan.Data))
		}
		if !c.Grow(sectors) || c.Write(f, f.Sync) != nil {
			t.Fatalf("%s: a larger card was not grown into", loader)
		}
		if c, err = Read(f, sectors); err != nil || c.Part(plan.Data).Size < dataSize+90<<20 || (c.Part(plan.Data).Begin+c.Part(plan.Data).Size)%Grain != 0 || c.Grow(sectors) {
			t.Errorf("%s: grown to %+v, %v", loader, c.Part(plan.Data), err)
		}
	}
}
