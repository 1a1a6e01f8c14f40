package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hearth/firmware/card"
	"hearth/firmware/gpt"
	"hearth/firmware/update"
)

// root lays out the root's files below dir and makes a file system of them, which is no larger than it has to be, since
// an update writes all of it.
func (o *Options) root(image, dir string) error {
	for _, d := range []string{"bin", "boot", "data", "dev", "etc/ssl/certs", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	put := func(name string, b []byte, mode os.FileMode) error {
		return os.WriteFile(filepath.Join(dir, name), b, mode)
	}
	for from, to := range map[string]string{"init": "init", "dhcp": "bin/dhcp", "hearth": "bin/hearth"} {
		b, err := os.ReadFile(filepath.Join(o.Programs, from))
		if err != nil {
			return fmt.Errorf("a program of the box: %w", err)
		}
		if err := put(to, b, 0o755); err != nil {
			return err
		}
	}
	if b, err := os.ReadFile(filepath.Join(o.Programs, "e2fsck")); err == nil {
		if err := put("bin/e2fsck", b, 0o755); err != nil {
			return err
		}
	} else {
		o.Say("no e2fsck: a damaged data partition will not be mended by the box")
	}
	if err := o.radio(dir); err != nil {
		return err
	}
	certs, err := text(o.Certs)
	if err != nil {
		return err
	}
	keys, err := text(o.Keys)
	if err != nil {
		return err
	}
	if _, err := update.Keys([]byte(keys)); err != nil {
		return fmt.Errorf("%s: %w", o.Keys, err)
	}
	release, err := json.Marshal(o.release())
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/:/bin/false\nhearth:x:1000:1000:hub:/data/hearth:/bin/false\n", "etc/group": "root:x:0:\nhearth:x:1000:\n",
		"etc/hosts": "127.0.0.1 localhost\n::1 localhost\n", "etc/nsswitch.conf": "hosts: files dns\n", "etc/hearth-version": o.Version + "\n",
		"etc/hearth-release": string(release) + "\n", "etc/hearth-update.pub": keys,
		"etc/ssl/certs/ca-certificates.crt": certs,
	} {
		if err := put(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("/tmp/resolv.conf", filepath.Join(dir, "etc/resolv.conf")); err != nil {
		return err
	}
	var size int64
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		if i, err := d.Info(); err == nil && d.Type().IsRegular() {
			size += i.Size()
		}
		return os.Chtimes(path, o.Time, o.Time)
	})
	if err != nil {
		return err
	}
	size = (size + size/16 + 12<<20) / card.Grain * card.Grain
	if size > card.RootSize {
		return fmt.Errorf("the root takes %d bytes, and there is room for %d", size, card.RootSize)
	}
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	return o.mkfs(image, fileSystem{name: "root", id: o.id("root"), size: size}, "-O", "^has_journal", "-d", dir)
}

// text reads a file, and nothing where there is none to be.
func text(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// release is what the root says of itself.
func (o *Options) release() update.Release {
	return update.Release{Board: o.Board.Name, Version: o.Version, Sequence: o.Sequence, Floor: o.Floor, Store: storeForm}
}

// storeForm is the newest form of a store that the hub reads; the hub's own tests hold the two together.
const storeForm = 2

// fileSystem is one that is to be made, size bytes at a place of a file.
type fileSystem struct {
	name     string
	id       gpt.GUID
	at, size int64
}

// mkfs makes an ext4.
func (o *Options) mkfs(image string, p fileSystem, more ...string) error {
	path, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		for _, known := range []string{"/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4"} {
			if _, there := os.Stat(known); there == nil {
				path, err = known, nil
			}
		}
	}
	if err != nil {
		return errors.New("mkfs.ext4 is not there; it comes with the package e2fsprogs")
	}
	extended := fmt.Sprintf("offset=%d,root_owner=0:0,hash_seed=%s", p.at, p.id)
	args := []string{"-q", "-F", "-b", "4096", "-T", "default", "-m", "0", "-L", p.name, "-U", p.id.String()}
	for i := 0; i < len(more); i++ {
		if more[i] == "-E" {
			extended += "," + more[i+1]
			i++
			continue
		}
		args = append(args, more[i])
	}
	args = append(args, "-E", extended, image, fmt.Sprint(p.size/4096))
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", o.Time.Unix()), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Time.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
