package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	systemd "github.com/gokrazy/tools/third_party/systemd-250.5-1"

	"hearth/firmware/boot"
	"hearth/firmware/card"
	"hearth/firmware/update"
)

// cmdline is what the kernel is told besides where its root is. A kernel that fails, or finds no root for a minute,
// starts the board anew, which ends a trial. A watchdog that runs already, which the kernel feeds until a program does, it
// feeds for no longer than that: init opens it as its first deed. Of a board with a GUID table it says gpt: the kernel reads
// the one at the end of the disk, too, where a power cut has torn the one in front.
func (o *Options) cmdline() string {
	return o.Board.Cmdline + " ro rootfstype=ext4 rootwait=60 init=/init panic=10 oops=panic watchdog.open_timeout=120 loglevel=5 printk.devkmsg=on"
}

// startFiles gives all that starts a root: kernel, firmware, and the words for both.
func (o *Options) startFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	if err := o.collect(files, o.Board.Kernel, o.Board.KernelFiles); err != nil {
		return nil, err
	}
	if o.Board.Firmware != "" {
		if err := o.collect(files, o.Board.Firmware, o.Board.FirmwareFiles); err != nil {
			return nil, err
		}
	}
	if o.Board.Loader == card.Raspberry {
		files["config.txt"] = []byte(o.Board.Config)
		files["cmdline.txt"] = []byte(update.RootBlank + " " + o.cmdline() + "\n")
	}
	return files, nil
}

// homeFiles gives what the partition HEARTH holds.
func (o *Options) homeFiles(c *card.Card, p *parts) (map[string][]byte, error) {
	text, err := settings(o.Settings)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"hearth.txt": text}
	if o.Board.Loader == card.Raspberry {
		files[update.AutobootFile] = update.Autoboot(c.Plan.Boot[card.A], c.Plan.Boot[card.B])
		return files, o.collect(files, o.Board.Firmware, o.Board.HomeFiles)
	}
	loader, err := systemd.SystemdBootAA64.ReadFile("systemd-bootaa64.efi")
	if err != nil {
		return nil, err
	}
	files["EFI/BOOT/BOOTAA64.EFI"] = loader
	files["loader/loader.conf"] = []byte("timeout 0\n")
	if files[driverFile], err = o.driver(); err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(p.files[update.PartKernel])
	if err != nil {
		return nil, err
	}
	if len(kernel) > card.KernelMax {
		return nil, fmt.Errorf("the kernel has %d bytes, and there is room for %d", len(kernel), card.KernelMax)
	}
	files[update.KernelFile(card.A)], files[update.KernelFile(card.B)] = kernel, nil
	// By their names A comes before B, and lies in front of it, which the box relies on.
	for slot, name := range []string{update.EntryName(card.A, 1, -1, 0), update.EntryName(card.B, 1, 0, 0)} {
		text, err := update.EntryText(slot, &p.manifest, c.Part(c.Plan.Root[slot]).UUID)
		if err != nil {
			return nil, err
		}
		files[update.EntryFolder+"/"+name] = text
	}
	return files, nil
}

// collect reads files of a module that go.mod pins, which is fetched where it is not here yet.
func (o *Options) collect(files map[string][]byte, module string, patterns []string) error {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = o.Parts
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if more := json.Unmarshal(out, &got); more != nil || err != nil || got.Dir == "" {
		return fmt.Errorf("fetching %s: %v %s", module, err, got.Error)
	}
	dir := got.Dir
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%s has no %s", module, p)
		}
		for _, path := range found {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if files[filepath.ToSlash(name)], err = os.ReadFile(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// intro is what an owner who opens the file reads.
const intro = `# The settings of this hub. Take the # away in front of what you set, save, and put the card into the board.
# Every setting of "hearth example-config" can stand here too. The file is blanked once it was taken.

# The name that users and rooms end with. It can never change; without one the hub makes up a name for your network.
#server_name = "hub.example"

# What the box is called on your network, and a time server other than the public ones.
#box_hostname = "hearth"
#box_ntp = "192.168.1.1"

# A Wi-Fi for the box, with WPA2 or without a password, and the country whose channels it may use (Raspberry Pi).
#box_wifi_ssid = "my network"
#box_wifi_password = "its password"
#box_wifi_country = "DE"

# Where the box looks for a newer version of itself once a day.
#box_update_url = "https://example.org/hearth-rpi.update"

# For a box without a screen: the claim code that makes you its owner, 12 letters and digits or more that nobody guesses.
#box_claim_code = ""

# "owner": the box shows a new claim code, for a new password. "clock": it forgets the time, where it believed a wrong one.
# "factory": it deletes the hub and everything that it keeps.
#box_reset = "owner"
`

var (
	line   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	plain  = regexp.MustCompile(`^(".*"|\[.*\]|[0-9]+)$`)
	spaces = bytes.Repeat([]byte(" "), 127)
)

// settings writes the owner's file. It is filled up to 4 KiB with blanks, room to write secrets into and to blank them.
func settings(given []string) ([]byte, error) {
	text := []byte(intro)
	for _, s := range given {
		key, value, ok := strings.Cut(s, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || !line.MatchString(key) || strings.ContainsAny(value, "\n\r") {
			return nil, fmt.Errorf("%q is not of the form server_name=hub.example", s)
		}
		if !plain.MatchString(value) {
			value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		}
		text = fmt.Appendf(text, "%s = %s\n", key, value)
	}
	if _, err := boot.ParseSettings(text); err != nil {
		return nil, err
	}
	for len(text) < 4096-len(spaces) {
		text = append(append(text, spaces...), '\n')
	}
	return text, nil
}
