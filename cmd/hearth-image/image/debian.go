package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/blakesmith/ar"
	"github.com/ulikunitz/xz"
)

// Some of what a box needs no Go module carries, and a machine without a cross compiler cannot build: Debian's packages
// have it. They are named by version and content, and come from where this machine's apt takes packages, without a change
// to what apt knows and without root.

// debian is one package.
type debian struct {
	name  string            // as apt-get takes it; without a version: the newest
	sum   string            // SHA-256 of the package; empty: the kernel checks a signature of what is in it
	files map[string]string // where a file goes: its name in the package
}

// Debian lists the packages by what they bring: the program by which a box mends its data partition, and what the radios
// of Raspberry Pis run, with the rules of countries. No package has what the radio of the Zero 2 W runs.
func packagesFor(what string) ([]debian, error) {
	const firmware, cypress = "./lib/firmware/brcm/brcmfmac", "./lib/firmware/cypress/cyfmac"
	switch what {
	case "e2fsck":
		return []debian{{
			"e2fsck-static:arm64=1.47.0-2+b2", "c737ccfa53974dcbe1b5d44fdaf64d8127c050aad6ebd25309d1b74636fa9949", map[string]string{"e2fsck": "./sbin/e2fsck.static"},
		}}, nil
	case "wifi":
		return []debian{{
			"firmware-brcm80211=20230210-5", "602b8c2dd176edbb187fe8d0d2ad8fadbfb7885e5fc3425b579c2d36ec72aa19", map[string]string{
				"wifi/brcm/brcmfmac43430-sdio.bin":                              cypress + "43430-sdio.bin",
				"wifi/brcm/brcmfmac43430-sdio.clm_blob":                         cypress + "43430-sdio.clm_blob",
				"wifi/brcm/brcmfmac43430-sdio.raspberrypi,3-model-b.txt":        firmware + "43430-sdio.raspberrypi,3-model-b.txt",
				"wifi/brcm/brcmfmac43455-sdio.bin":                              cypress + "43455-sdio.bin",
				"wifi/brcm/brcmfmac43455-sdio.clm_blob":                         cypress + "43455-sdio.clm_blob",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,3-model-b-plus.txt":   firmware + "43455-sdio.raspberrypi,3-model-b-plus.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,3-model-a-plus.txt":   firmware + "43455-sdio.raspberrypi,3-model-b-plus.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.txt":        firmware + "43455-sdio.raspberrypi,4-model-b.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,400.txt":              firmware + "43455-sdio.raspberrypi,4-model-b.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,4-compute-module.txt": firmware + "43455-sdio.raspberrypi,4-model-b.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,5-model-b.txt":        firmware + "43455-sdio.raspberrypi,4-model-b.txt",
				"wifi/brcm/brcmfmac43455-sdio.raspberrypi,5-compute-module.txt": firmware + "43455-sdio.raspberrypi,4-model-b.txt",
				"wifi/COPYING": "./usr/share/doc/firmware-brcm80211/copyright",
			},
		}, {"wireless-regdb", "", map[string]string{"wifi/regulatory.db": "./lib/firmware/regulatory.db-upstream", "wifi/regulatory.db.p7s": "./lib/firmware/regulatory.db.p7s-upstream"}}}, nil
	}
	return nil, fmt.Errorf("there is nothing called %q; e2fsck and wifi there are", what)
}

// Fetch brings e2fsck or wifi into the folder of a box's programs, unless it is there.
func Fetch(what, to string) error {
	all, err := packagesFor(what)
	if err != nil {
		return err
	}
	there := true
	for _, p := range all {
		for name := range p.files {
			if _, err := os.Stat(filepath.Join(to, name)); err != nil {
				there = false
			}
		}
	}
	if there {
		return nil
	}
	dir, err := os.MkdirTemp("", "hearth-debian")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	apt, err := newApt(dir)
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := p.fetch(apt, to); err != nil {
			return err
		}
	}
	return nil
}

// apt is apt-get with settings of its own.
type apt struct {
	dir  string
	args []string
}

// components are the lines of apt's sources that say which parts of Debian are taken.
var components = regexp.MustCompile(`(?m)^(Components:.*\bmain\b.*|deb .*\bmain\b.*)$`)

// newApt makes one that knows packages for arm64, those that are free to hand on but have no source too, and fetches the
// lists of them.
func newApt(dir string) (*apt, error) {
	for _, d := range []string{"lists/partial", "cache/archives/partial", "sources"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	found, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return nil, err
	}
	for _, path := range append(found, "/etc/apt/sources.list") {
		if ext := filepath.Ext(path); ext != ".list" && ext != ".sources" {
			continue
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "sources", filepath.Base(path)), components.ReplaceAll(text, []byte("$1 non-free-firmware")), 0o644); err != nil {
			return nil, err
		}
	}
	a := &apt{dir, []string{"-q", "-o", "Dir::State::lists=" + dir + "/lists", "-o", "Dir::Cache=" + dir + "/cache", "-o", "Dir::Etc::SourceList=/dev/null",
		"-o", "Dir::Etc::SourceParts=" + dir + "/sources", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User="}}
	return a, a.run("update")
}

func (a *apt) run(args ...string) error {
	path, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("there is no apt-get to fetch Debian's packages by")
	}
	cmd := exec.Command(path, append(a.args, args...)...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// fetch takes the package's files into a folder.
func (p debian) fetch(a *apt, to string) error {
	if err := a.run("download", p.name); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download %s left %v", p.name, found)
	}
	deb, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	if err := os.Remove(found[0]); err != nil {
		return err
	}
	if sum := sha256.Sum256(deb); p.sum != "" && hex.EncodeToString(sum[:]) != p.sum {
		return fmt.Errorf("%s is not what it was: its SHA-256 is %x", p.name, sum)
	}
	files, err := unpackDeb(deb)
	if err != nil {
		return err
	}
	for name, from := range p.files {
		b, ok := files[from]
		if !ok {
			return fmt.Errorf("%s has no %s", p.name, from)
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// unpackDeb gives the files of a package.
func unpackDeb(deb []byte) (map[string][]byte, error) {
	for parts := ar.NewReader(bytes.NewReader(deb)); ; {
		h, err := parts.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the package has no data.tar.xz")
		}
		if err != nil {
			return nil, err
		}
		if h.Name == "data.tar.xz" {
			plain, err := xz.NewReader(parts)
			if err != nil {
				return nil, err
			}
			return untar(tar.NewReader(plain))
		}
	}
}

func untar(r *tar.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}
