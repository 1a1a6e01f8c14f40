// Package pack puts a built hub into packages for systems that somebody else runs: deb, rpm, OpenWrt's ipk and apk,
// and a tar.gz for the rest.
//
// It owns what is in them beside the program: the hardened systemd unit, the procd script, the settings file, the user,
// and what happens when they come, are renewed and go. It refuses two things. A fresh package never starts the hub by
// itself, because the name that it first starts with is its name for ever. And no script ever deletes data: it holds
// keys that nothing brings back.
package pack

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/apk"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/ipk"
	"github.com/goreleaser/nfpm/v2/rpm"
)

//go:embed files
var shipped embed.FS

// Options is what to build from.
type Options struct {
	Programs string            // folder with hearth-linux-amd64 and so on, as make cross leaves them
	Settings []byte            // what hearth example-config prints
	Extra    map[string]string // files that go into the tar.gz too: name there, path here
	To       string            // folder that gets the packages
	Version  string            // as 0.1.0, or 0.1.0-git20260102030405 before a release
	Time     time.Time         // of every file, so that the same sources give the same bytes
	Only     []string          // words of which a package's file name must contain one; empty: all are built
	Say      func(string)      // hears of each package
}

// Kind is one package that can be built.
type Kind struct {
	Format  string // deb, rpm, ipk, apk or tar.gz
	Program string // what the program's file name ends with
	Arch    string // as the packages' own system says
}

// Kinds is every package there is.
//
// Debian's armhf gets the ARMv6 program: one name stands for Debian's v7 and for the v6 of a Raspberry Pi Zero. OpenWrt
// has one name for each core that it is compiled for, and installs no other, so the same program is wrapped several times.
func Kinds() []Kind {
	all := []Kind{
		{"deb", "amd64", "amd64"}, {"deb", "arm64", "arm64"}, {"deb", "armv6", "armhf"}, {"deb", "riscv64", "riscv64"},
		{"rpm", "amd64", "x86_64"}, {"rpm", "arm64", "aarch64"}, {"rpm", "armv7", "armv7hl"}, {"rpm", "riscv64", "riscv64"},
	}
	for _, format := range []string{"ipk", "apk"} {
		all = append(all,
			Kind{format, "amd64", "x86_64"},
			Kind{format, "arm64", "aarch64_generic"}, Kind{format, "arm64", "aarch64_cortex-a53"}, Kind{format, "arm64", "aarch64_cortex-a72"},
			Kind{format, "armv7", "arm_cortex-a7_neon-vfpv4"}, Kind{format, "armv7", "arm_cortex-a9_vfpv3-d16"},
			Kind{format, "riscv64", "riscv64_generic"},
		)
	}
	for _, p := range []string{"amd64", "arm64", "armv6", "armv7", "riscv64"} {
		all = append(all, Kind{"tar.gz", p, p})
	}
	return all
}

// file is the name that a package's file gets.
func (k Kind) file(version string) string {
	name := "hearth_" + version + "_" + k.Arch + "." + k.Format
	if k.Format == "ipk" || k.Format == "apk" {
		return "openwrt-" + name
	}
	return name
}

// Build writes the packages and a file SHA256SUMS, and returns the packages' paths.
func Build(o Options) ([]string, error) {
	if err := os.MkdirAll(o.To, 0o755); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "hearth-pack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	if err := unpack(scratch, o); err != nil {
		return nil, err
	}
	var made []string
	var sums bytes.Buffer
	for _, k := range Kinds() {
		name := k.file(o.Version)
		if len(o.Only) > 0 && !slices.ContainsFunc(o.Only, func(w string) bool { return strings.Contains(name, w) }) {
			continue
		}
		sum, err := buildOne(o, k, scratch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
		made = append(made, filepath.Join(o.To, name))
		if o.Say != nil {
			o.Say(name)
		}
	}
	if len(made) == 0 {
		return nil, fmt.Errorf("no package is named like any of %q", o.Only)
	}
	return made, os.WriteFile(filepath.Join(o.To, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// unpack lays the shipped files where nfpm can read them, beside the settings for either place of the data.
// Their times are set because an apk takes those of its scripts from the disk.
func unpack(dir string, o Options) error {
	if err := os.CopyFS(dir, shipped); err != nil {
		return err
	}
	for name, data := range map[string]string{"hearth.toml": "/var/lib/hearth", "openwrt.toml": "/srv/hearth"} {
		text, err := settle(o.Settings, data)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "files", name), text, 0o644); err != nil {
			return err
		}
	}
	all, err := os.ReadDir(filepath.Join(dir, "files"))
	for _, e := range all {
		err = errors.Join(err, os.Chtimes(filepath.Join(dir, "files", e.Name()), o.Time, o.Time))
	}
	return err
}

// settle sets data_dir in the example settings, which have it commented out.
func settle(settings []byte, data string) ([]byte, error) {
	const line = "#data_dir = \"hearth-data\"\n"
	if bytes.Count(settings, []byte(line)) != 1 {
		return nil, fmt.Errorf("the example settings have no line %q to set", line)
	}
	return bytes.Replace(settings, []byte(line), []byte("data_dir = \""+data+"\"\n"), 1), nil
}

// buildOne writes one package and gives its checksum.
func buildOne(o Options, k Kind, scratch string) (string, error) {
	program := filepath.Join(o.Programs, "hearth-linux-"+k.Program)
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("the program is not there: %w", err)
	}
	path := filepath.Join(o.To, k.file(o.Version))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	w := io.MultiWriter(f, h)
	if k.Format == "tar.gz" {
		err = archive(w, o, k, scratch)
	} else {
		err = wrap(w, o, k, scratch)
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), f.Close()
}

// wrap writes a package of one of the formats that nfpm knows.
func wrap(w io.Writer, o Options, k Kind, scratch string) error {
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "hearth", Version: o.Version, Arch: k.Arch, Platform: "linux", Release: "1", MTime: o.Time, DisableGlobbing: true,
		Section: "net", Priority: "optional", Maintainer: "The Hearth authors <hearth@localhost>", License: "Apache-2.0",
		Description: "Matrix homeserver for small computers\nA hub for people in any Matrix client and for things that speak MQTT,\nin one program with an embedded store.",
	})
	shipped := func(name string) string { return filepath.Join(scratch, "files", name) }
	at := func(src, dst string, mode os.FileMode) *files.Content {
		return &files.Content{Source: src, Destination: dst, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: o.Time}}
	}
	conf := func(src string) *files.Content {
		c := at(src, "/etc/hearth/hearth.toml", 0o644)
		c.Type = files.TypeConfigNoReplace
		return c
	}
	info.Contents = files.Contents{at(filepath.Join(o.Programs, "hearth-linux-"+k.Program), "/usr/bin/hearth", 0o755)}
	if k.Format == "ipk" || k.Format == "apk" {
		info.Contents = append(info.Contents, conf(shipped("openwrt.toml")),
			at(shipped("hearth.procd"), "/etc/init.d/hearth", 0o755), at(shipped("hearth.keep"), "/lib/upgrade/keep.d/hearth", 0o644))
		info.Scripts = nfpm.Scripts{PostInstall: shipped("openwrt-postinst.sh"), PreRemove: shipped("openwrt-prerm.sh")}
		info.APK.Scripts.PostUpgrade = shipped("openwrt-postinst.sh")
		if k.Format == "ipk" {
			return ipk.Default.Package(info, w)
		}
		info.Release = "0"
		info.Description, _, _ = strings.Cut(info.Description, "\n") // its format knows one line only
		return apk.Default.Package(info, w)
	}
	info.Contents = append(info.Contents, conf(shipped("hearth.toml")),
		at(shipped("hearth.service"), "/usr/lib/systemd/system/hearth.service", 0o644),
		at(shipped("hearth.sysusers"), "/usr/lib/sysusers.d/hearth.conf", 0o644))
	info.Scripts = nfpm.Scripts{PreInstall: shipped("preinst.sh"), PostInstall: shipped("postinst.sh"),
		PreRemove: shipped("prerm.sh"), PostRemove: shipped("postrm.sh")}
	if k.Format == "rpm" {
		info.RPM.BuildHost, info.RPM.Summary = "localhost", "Matrix homeserver for small computers"
		info.Depends = []string{"/usr/sbin/useradd", "/usr/bin/getent"}
		return rpm.DefaultRPM.Package(info, w)
	}
	info.Depends = []string{"passwd"}
	info.Recommends = []string{"ca-certificates"}
	return deb.Default.Package(info, w)
}
