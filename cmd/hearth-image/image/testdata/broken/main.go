// Command broken is a hub that serves for some seconds and then ends, over and over, without ever having said that it is
// well: what the trial of a new version has to notice. The hub itself is appended to this program, and behind it how
// long it is.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	hub, err := unpack()
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(hub, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(9*time.Second, func() { _ = cmd.Process.Kill() })
	log.Fatal(cmd.Wait())
}

// unpack copies the hub into memory and gives its path.
func unpack() (string, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	end, err := self.Seek(-8, io.SeekEnd)
	if err != nil {
		return "", err
	}
	var n uint64
	if err := binary.Read(self, binary.BigEndian, &n); err != nil {
		return "", err
	}
	fd, err := unix.MemfdCreate("hub", 0)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(os.NewFile(uintptr(fd), "hub"), io.NewSectionReader(self, end-int64(n), int64(n))); err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}
