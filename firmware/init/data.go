package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hearth/firmware/boot"
)

// reclaimTime is how long the hub may take to open its store for a new claim code; one that was damaged takes longest.
const reclaimTime = 10 * time.Minute

// claimEnv tells the hub which claim code to make; empty: one of its own.
const claimEnv = "HEARTH_CLAIM_CODE="

// reclaim has the hub make a new claim code, which it shows when it serves. A hub that was never started has one anyway.
func reclaim(code string) error {
	dir := data + "/" + boot.HubFolder
	if _, err := os.Stat(dir + "/store"); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ctx, end := context.WithTimeout(context.Background(), reclaimTime)
	defer end()
	cmd := exec.CommandContext(ctx, "/bin/hearth", "user", "claim", "--data-dir", dir)
	cmd.Dir, cmd.Env = dir, []string{claimEnv + code, "HOME=" + dir, "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hubUser, Gid: hubUser}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// hubSettings writes the hub's settings into a file that the hub reads as its own user; the box's file is for root alone.
func hubSettings(file string, s *boot.Settings) error {
	if err := os.WriteFile(file, s.Hub, 0o600); err != nil {
		return err
	}
	return os.Chown(file, hubUser, hubUser)
}

// judgeTime is how long the hub may take to look at new settings. It asks the network too, which is not there yet.
const judgeTime = time.Minute

// judge has the hub look at settings that are new, before they replace those that it runs with. Only what would keep it
// from starting counts, and no doubt of ours.
func judge(s *boot.Settings) error {
	const file = "/run/new.toml"
	defer os.Remove(file)
	if err := hubSettings(file, s); err != nil {
		return err
	}
	ctx, end := context.WithTimeout(context.Background(), judgeTime)
	defer end()
	cmd := exec.CommandContext(ctx, "/bin/hearth", "check", "--config", file, "--data-dir", data+"/"+boot.HubFolder)
	cmd.Dir, cmd.Env = "/", []string{"TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hubUser, Gid: hubUser}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	var ended *exec.ExitError
	if err := cmd.Run(); ctx.Err() != nil || !errors.As(err, &ended) || !ended.Exited() {
		return nil
	}
	return boot.HubRefuses(said.String(), complained.String(), file)
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
