package update

import "fmt"

// Loader is how the firmware of a board is told which slot to start: uefi or raspberry. Default is the slot that starts
// when nothing is said; a box that runs the other one is on trial.
type Loader interface {
	Default() (slot int, err error)
	Retire(slot int) error                        // the slot is to be overwritten
	Region(slot int, part string) (Region, error) // where a part of the slot lies
	Finish(slot int, m *Manifest) error           // the parts are written: name the slot's root to its kernel
	Arm(slot int) error                           // the slot is to be started once, if the firmware has to be told
	Commit(slot int) error                        // the slot is the default from now on
	Parts() []string                              // what a slot is made of
}

// Install writes an archive into a slot that is not in use. Nothing starts it before it is armed. say hears of each step.
func Install(a *Archive, l Loader, slot int, say func(string)) error {
	if def, err := l.Default(); err != nil || def == slot {
		return fmt.Errorf("slot %d is the one that starts: %v", slot, err)
	}
	regions, err := places(a, l, slot)
	if err != nil {
		return err
	}
	say("looking at the archive")
	if err := a.Verify(); err != nil {
		return err
	}
	if err := l.Retire(slot); err != nil {
		return err
	}
	for i, p := range a.Parts {
		say("writing " + p.Name)
		if err := a.write(p, regions[i]); err != nil {
			return err
		}
	}
	return l.Finish(slot, &a.Manifest)
}

// places finds where the parts go, and refuses an archive that lacks one or does not fit.
func places(a *Archive, l Loader, slot int) (regions []Region, err error) {
	want := l.Parts()
	if len(a.Parts) != len(want) {
		return nil, refused("it has %d parts, and this board %d", len(a.Parts), len(want))
	}
	for _, p := range a.Parts {
		r, err := l.Region(slot, p.Name)
		if err != nil {
			return nil, err
		}
		if p.Size > r.Max {
			return nil, refused("part %s has %d bytes, and there is room for %d", p.Name, p.Size, r.Max)
		}
		regions = append(regions, r)
	}
	return regions, nil
}
