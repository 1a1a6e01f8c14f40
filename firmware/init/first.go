package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// first is the life of process 1: it starts this program once more, which does the work, passes signals on to it, and
// takes leave of processes that nobody else waits for. So a fault in the work is seen on the console and answered by a
// reset in order, where the kernel would panic before the words are out.
func first() {
	child, err := os.StartProcess("/init", []string{"init", "work"}, &os.ProcAttr{Dir: "/", Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		log.Printf("starting the work: %v", err)
		restart()
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // Ctrl-Alt-Del is a signal to us then
	go func() {
		for s := range told {
			_ = child.Signal(s)
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if pid == child.Pid || err != nil {
			log.Printf("the work ended, which it must not: status %d, %v", status, err)
			restart()
		}
	}
}

// restart gives the console time to show what was said, and the disk to take what was written; no more where it hangs.
func restart() {
	go unix.Sync()
	time.Sleep(5 * time.Second)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}
