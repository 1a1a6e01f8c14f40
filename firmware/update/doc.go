// Package update brings a new version onto a box: the form of an archive, its signature, and the writing of the slot that
// is not in use. It owns the order of the writes; it refuses whatever is not signed by a key of the running root, is for
// another board, is older than the floor, is damaged or too large, in one place for every way in (Open, Suits, Verify).
//
// # How an update walks, and what a power cut leaves
//
// A card has two slots (package card). One is the default: what starts when nothing is said. The other is free.
//
//  1. The archive is looked at as a whole: signature, board, floor, room, and every part's hash. Nothing was written.
//  2. Retire: the free slot is marked as one that does not start by itself. Then its parts are written, flushed, and
//     read back from the device. A cut leaves the default, and a free slot that nothing starts.
//  3. Finish: the small texts that name the free slot's root are written. The same holds.
//  4. The box notes in its data partition what is on trial (State), and Arm lets the free slot start once. A cut before
//     that leaves the default; after it, the trial begins at the next start, or is forgotten on a Raspberry Pi.
//  5. The firmware takes the one try away before it starts the kernel, so that a hang, a panic or a cut at any moment
//     of the trial leads back to the default.
//  6. The trial (Trial) is watched for: the hub serves, has committed since, has not crashed five times, the interfaces
//     that had an address have one, packets come in; all of it for a minute. After ten minutes without that, the box is
//     reset, which starts the default.
//  7. Commit: one sector makes the slot the default. Either it is the old one or the new one that starts. Only then is
//     the security floor raised, and only a hub started after that may change the form of the store.
//
// On UEFI boards the default is told by names. systemd-boot starts the entry whose name is the highest, but one whose name
// says that no tries are left comes last, and one whose name says +1 becomes +0-1 before it is started. The folder of
// entries is one sector: hearth-1a.conf and hearth-1b+0.conf become hearth-2b+1.conf (Arm) and hearth-2b.conf (Commit) by
// writing that sector. The text of an entry and a kernel lie where there is room for the largest, and are overwritten
// where they lie; the size of the kernel's file, of a slot that nothing starts, is one more sector. On a Raspberry Pi the
// default is boot_partition= in autoboot.txt, one sector too; a trial is a restart with the words "0 tryboot", which the
// firmware keeps nowhere.
//
// What ends a hang is a watchdog of the hardware. Until the kernel has found it, it is armed by the firmware of a Raspberry
// Pi, and with UEFI by the driver of package firmware/efi; from there on the kernel's command line says how long it waits for
// the first program (image, cmdline), which feeds it for a time that is bounded in a trial (Longest).
package update
