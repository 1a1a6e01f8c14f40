package image

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// radio puts what a board's radio needs into a root: drivers of the very kernel that the root goes with, in the order in
// which the box loads them, and the programs that they load into the radio, where they were fetched.
func (o *Options) radio(root string) error {
	if len(o.Board.Drivers) == 0 {
		return nil
	}
	dir, list := filepath.Join(root, "lib", "drivers"), ""
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, pattern := range o.Board.Drivers {
		files := map[string][]byte{}
		if err := o.collect(files, o.Board.Kernel, []string{pattern}); err != nil {
			return err
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(dir, path.Base(name)), b, 0o644); err != nil {
				return err
			}
			list += path.Base(name) + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "list"), []byte(list), 0o644); err != nil {
		return err
	}
	from := filepath.Join(o.Programs, "wifi")
	if _, err := os.Stat(from); err != nil {
		o.Say("no wifi: the radio's own program is not there")
		return nil
	}
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if to = filepath.Join(root, "lib", "firmware", to); d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
}
