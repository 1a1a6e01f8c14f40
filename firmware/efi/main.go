// Command efi holds the driver by which a box with UEFI comes back from a kernel that hangs before the first program, or
// that is not started at all. It is no program to run: the image builder takes the driver's code out of it.
//
// systemd-boot has UEFI reset a machine whose kernel is not started in five minutes, but UEFI's timer ends when the kernel
// takes over, and is stopped when the loader gives up. So the driver, which systemd-boot starts before it chooses an
// entry, arms a watchdog of the hardware, and goes. The next start after the reset finds that the one try of the version on
// trial was taken, and starts the version before. It arms one of these, the first that it finds:
//
//   - The Intel 6300ESB on a PCI bus, which QEMU, and what is built on that, gives to virtual machines. It is locked too,
//     so that it runs on when the kernel's driver has found it, from there on with the time that the command line says.
//   - A watchdog of Arm's Base System Architecture, as servers have, where the firmware tells of it in ACPI's table of
//     timers, and gives the kernel no device tree in place of that. The kernel feeds one that it finds running, for
//     as long as watchdog.open_timeout on its command line.
//
// Our kernel has drivers for both, and a program opens what they give as its first deed (package firmware/boot). Where
// there is neither of them the driver does nothing, and the box starts as without it.
//
// The first was seen to bring the version before back, in QEMU's -M virt. The second has been on no server yet: what the
// driver does was seen with tables made for that, in the tests, and once in UEFI at both levels of privilege, where frames that
// were not mapped were left alone and those of plain memory were armed.
//
// It owns the time from the loader to the kernel's driver. It refuses what the loader and the kernel do
// themselves: it reads no file, prints nothing, and stays in no memory. It lies in the partition HEARTH beside the loader, which
// updates never write, so a box keeps the driver that its image was built with, and no bad version can take it away. It is in
// assembly, as Go's toolchain is all that an image is built by.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintf(os.Stderr, "this is no program: it holds a driver for UEFI, at %#x\n", where())
	os.Exit(1)
}
