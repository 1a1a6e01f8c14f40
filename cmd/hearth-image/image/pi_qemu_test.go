package image

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/firmware/card"
	"hearth/firmware/fat"
)

// TestPi boots the image of Raspberry Pis in QEMU's raspi3b, with the kernel and the words for it that lie in its boot
// partition, and claims the hub; what the box knows is there after a power cut. QEMU has no firmware of a Pi: what that does
// with autoboot.txt, and a trial, are for boards.
//
//	HEARTH_PI  the image, not compressed; it is copied
func TestPi(t *testing.T) {
	if os.Getenv("HEARTH_PI") == "" {
		t.Skip("make image-test-pi runs this")
	}
	b := &box{T: t, dir: t.TempDir(), pi: true}
	b.disk = filepath.Join(b.dir, "disk")
	copyCard(t, os.Getenv("HEARTH_PI"), b.disk)
	at := b.tell(ownersFile)
	b.boot(http.StatusOK)
	if text := b.told(at); strings.Contains(text, "box.example") {
		t.Errorf("the owner's settings are still on the boot partition:\n%s", text)
	}
	b.claim(b.shown(claimCode))
	room := b.room()
	b.mqtt()
	sent := b.load(room, 0)
	b.cut()
	b.boot(http.StatusOK)
	b.readAll(room, sent)
}

// raspberry is what QEMU is told of a Raspberry Pi 3. Its model has no power domains, which the watchdog's driver asks for.
func (b *box) raspberry() []string {
	b.Helper()
	kernel, tree := b.bootFile("vmlinuz"), b.bootFile("bcm2710-rpi-3-b.dtb")
	text, err := os.ReadFile(b.bootFile("cmdline.txt"))
	if err != nil {
		b.Fatal(err)
	}
	words := strings.ReplaceAll(strings.TrimSpace(string(text)), "console=serial0", "console=ttyAMA1") // of the two ports QEMU shows the one that a board has for its radio
	return []string{"-M", "raspi3b", "-kernel", kernel, "-dtb", tree, "-append", words + " initcall_blacklist=bcm2835_wdt_driver_init,bcm2835_power_driver_init",
		"-drive", "if=sd,format=raw,file=" + b.disk, "-device", "usb-net,netdev=n,mac=50:54:00:12:34:56"}
}

// bootFile takes a file out of the boot partition of slot A, and gives its path.
func (b *box) bootFile(name string) string {
	b.Helper()
	f, err := os.Open(b.disk)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	c, err := card.Read(f, 2<<30/512)
	if err != nil {
		b.Fatal(err)
	}
	part := c.Part(c.Plan.Boot[card.A])
	in := io.NewSectionReader(f, part.Begin, part.Size)
	v, err := fat.Open(in)
	if err != nil {
		b.Fatal(err)
	}
	found, err := v.Find(name)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.dir, name)
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(in, found.At, found.Size)); err != nil {
		b.Fatal(err)
	}
	return path
}
