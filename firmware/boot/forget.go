package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// What the data partition keeps of a hub and its owner, besides the time.
const (
	HubFolder = "hearth"
	forgotten = "forgotten" // what is being deleted
	checkLog  = "check.log" // what the last check of the file system said
	lostFiles = "lost+found"
)

// KeepCheck keeps what a check of the data partition said, for who wants to know what became of a file.
func KeepCheck(data string, said []byte) error {
	if len(said) == 0 {
		return nil
	}
	return WriteFile(filepath.Join(data, checkLog), said, 0o600)
}

// Lost says that a file system was mended and the hub is not where it was: a box that took it for a new one would give an
// empty hub, of the same name, to the next who has a claim code, and might write over what can still be found. mended says
// that this was just now and that KeepCheck had no room to note it.
func Lost(data string, mended bool) error {
	if _, err := os.Stat(filepath.Join(data, HubFolder, "store")); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, checked := os.Stat(filepath.Join(data, checkLog))
	found, err := os.ReadDir(filepath.Join(data, lostFiles))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if checked != nil && len(found) == 0 && !mended {
		return nil
	}
	return fmt.Errorf("the data partition was damaged and has been mended, but the hub is not where it was; %d files and folders without a name lie in its folder lost+found.\n"+
		"%s with the line box_reset = \"factory\" begins anew, without them", len(found), SettingsFile)
}

// Forget makes the box one that was never started: the hub with its keys, the settings, what it said when it fell over.
// A power cut in between leaves the hub there or gone, never half of one. What a card once held can be read by those who
// take it apart; it is overwritten as the card is used again.
func Forget(data string) error {
	if err := FinishForgetting(data); err != nil {
		return err
	}
	err := os.Rename(filepath.Join(data, HubFolder), filepath.Join(data, forgotten))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("resetting the box: %w", err)
	}
	for _, name := range []string{SettingsFile, "crash", checkLog, "trimmed"} { // trimmed: the card is to be told soon
		if err := os.RemoveAll(filepath.Join(data, name)); err != nil {
			return fmt.Errorf("resetting the box: %w", err)
		}
	}
	found, err := os.ReadDir(filepath.Join(data, lostFiles))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, f := range found {
		if err := os.RemoveAll(filepath.Join(data, lostFiles, f.Name())); err != nil {
			return fmt.Errorf("resetting the box: %w", err)
		}
	}
	dir, err := os.Open(data)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return err
	}
	return FinishForgetting(data)
}

// FinishForgetting deletes what a reset that was cut short has left.
func FinishForgetting(data string) error {
	if err := os.RemoveAll(filepath.Join(data, forgotten)); err != nil {
		return fmt.Errorf("deleting the old hub: %w", err)
	}
	return nil
}
