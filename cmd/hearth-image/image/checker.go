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
	"strings"

	"github.com/blakesmith/ar"
	"github.com/ulikunitz/xz"
)

// The box mends its data partition with e2fsck, a program in C, which no Go module carries and which a machine without a
// cross compiler cannot build. Debian builds it as one static file; this is the package, by name, version and content.
const (
	checkerPackage = "e2fsck-static:arm64=1.47.0-2+b2"
	checkerSum     = "c737ccfa53974dcbe1b5d44fdaf64d8127c050aad6ebd25309d1b74636fa9949"
	checkerProgram = "eb00b66eb32461ce827eb90e33284ca4fd5e2889f3aaa59bf3d635953156f2a6"
)

// FetchChecker writes Debian's static e2fsck for the boards to a file, unless it is there. It takes it from where this
// machine's apt takes packages, without a change to what apt knows and without root.
func FetchChecker(to string) error {
	if b, err := os.ReadFile(to); err == nil && sum(b) == checkerProgram {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("there is no apt-get to fetch e2fsck by; a static one for arm64 can be put to %s by hand", to)
	}
	dir, err := os.MkdirTemp("", "hearth-e2fsck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	settings := []string{"-q", "-o", "Dir::State::lists=" + dir + "/lists", "-o", "Dir::Cache=" + dir + "/cache", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User="}
	for _, args := range [][]string{{"update"}, {"download", checkerPackage}} {
		cmd := exec.Command(apt, append(settings, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download %s left %v", checkerPackage, found)
	}
	deb, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	if sum(deb) != checkerSum {
		return fmt.Errorf("%s is not what it was: its SHA-256 is %s", checkerPackage, sum(deb))
	}
	program, err := fromDeb(deb, "./sbin/e2fsck.static")
	if err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// fromDeb takes a file out of a package.
func fromDeb(deb []byte, name string) ([]byte, error) {
	parts := ar.NewReader(bytes.NewReader(deb))
	for {
		h, err := parts.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the package has no data.tar.xz")
		}
		if err != nil {
			return nil, err
		}
		if h.Name != "data.tar.xz" {
			continue
		}
		plain, err := xz.NewReader(parts)
		if err != nil {
			return nil, err
		}
		return fromTar(tar.NewReader(plain), name)
	}
}

func fromTar(files *tar.Reader, name string) ([]byte, error) {
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the package has no %s", name)
		}
		if err != nil {
			return nil, err
		}
		if h.Name == name {
			return io.ReadAll(files)
		}
	}
}
