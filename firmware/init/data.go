package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"hearth/firmware/boot"
)

// reclaimTime is how long the hub may take to open its store for a new claim code; one that was damaged takes longest.
const reclaimTime = 10 * time.Minute

// reclaim has the hub make a new claim code, which it shows when it serves. A hub that was never started has one anyway.
func reclaim() error {
	dir := data + "/" + boot.HubFolder
	if _, err := os.Stat(dir + "/store"); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ctx, end := context.WithTimeout(context.Background(), reclaimTime)
	defer end()
	cmd := exec.CommandContext(ctx, "/bin/hearth", "user", "claim", "--data-dir", dir)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hubUser, Gid: hubUser}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// tellTime has neighbours without a clock told the time.
func tellTime(ctx context.Context, clock *boot.Clock) {
	server := &boot.TimeServer{Known: clock.Known}
	if err := server.Serve(ctx, ":123"); err != nil {
		log.Printf("neighbours are not told the time: %v", err)
	}
}

// boxSocket is where the hub hears what only root may read of the box, for its owner's file for who helps.
const boxSocket = "/run/box"

// tellHub answers it.
func tellHub(ctx context.Context) {
	r := boot.Report{Data: data}
	if v, err := os.ReadFile("/etc/hearth-version"); err == nil {
		r.Version = strings.TrimSpace(string(v))
	}
	var err error
	if r.Disk, err = boot.FindDisk(); err != nil {
		log.Printf("%v", err)
	}
	if err := r.Answer(ctx, boxSocket, hubUser); err != nil {
		log.Printf("the hub hears nothing of the box: %v", err)
	}
}

// radio keeps the box in the owner's Wi-Fi.
func radio(ctx context.Context, w boot.Wifi) {
	if w.SSID == "" {
		return
	}
	if err := w.Run(ctx, "/lib/drivers/list", "/bin/dhcp"); err != nil {
		log.Printf("Wi-Fi: %v", err)
	}
}
