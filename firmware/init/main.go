// Command init is the first program of a box: it mounts, sets the clock, and keeps the hub running.
//
// It owns the order of things and what the console shows. It refuses to end: what goes wrong is said on the console and
// on the page that stands in for the hub, because nobody can log in to a box.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hearth/firmware/boot"
	"hearth/firmware/update"
)

const (
	data    = "/data"
	hubUser = 1000
	socket  = "/run/hub"
	page    = ":8008"

	diskTime = 2 * time.Minute  // that the disk may take to tell what is on it, before the box is reset
	dataTime = time.Hour        // that the data partition may take to be made ready; a check has half of it
	nameTime = 10 * time.Second // after which the box asks for addresses without its name, which it has not read yet
	haltTime = time.Minute      // that all may take to end
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("hearth-box: ")
	kernelLog()
	// The DHCP client hangs up on programs of this name when it has an address, which would end them.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	switch {
	case os.Getpid() == 1:
		first()
	case len(os.Args) != 2 || os.Args[1] != "work" || os.Getppid() != 1:
		log.Fatal("this is the first program of a box, and of nothing else")
	}
	work()
}

// kernelLog makes standard error the kernel's log: what was said is on the console at once, even where the next thing
// is the end of this program.
func kernelLog() {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	if err := unix.Dup3(int(f.Fd()), 2, 0); err != nil {
		log.Printf("%v", err)
	}
}

// work does all that a box does beside starting.
func work() {
	ctx, end := context.WithCancel(context.Background())
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	var busy sync.WaitGroup
	if err := boot.Mount(); err != nil {
		log.Printf("%v", err)
	}
	dog := boot.OpenWatchdog()
	if err := boot.Stay(); err != nil {
		log.Printf("staying in memory: %v", err)
	}
	if err := boot.LoopbackUp(); err != nil {
		log.Printf("loopback: %v", err)
	}
	cables := sync.OnceFunc(func() { go boot.Cables(ctx, "/bin/dhcp") })
	time.AfterFunc(nameTime, cables)
	waiting, ready := context.WithTimeout(ctx, dataTime)
	go feed(waiting, dog) // a check of a large card takes minutes
	silent := time.AfterFunc(diskTime, ready)
	disk, err := boot.FindDisk()
	var settings *boot.Settings
	var up *updates
	if err == nil {
		if up, err = newUpdates(disk); err != nil {
			log.Printf("no updates: %v", err)
		}
		silent.Stop() // what hangs from here on ends a trial by itself
		settings, err = prepare(disk)
	}
	ready()
	cables() // now that those who give addresses can be told the box's name
	if err != nil {
		log.Printf("no hub: %v", err)
		up.hopeless(err)
		if up == nil { // this may be a trial that cannot even see its card
			time.AfterFunc(update.Longest, restart)
		}
		go feed(ctx, dog)
		go boot.Announce(ctx, os.Stdout, boot.NewHealth(time.Now()).Said)
		go func() { log.Printf("the page that says so: %v", boot.Rescue(ctx, page, err)) }()
	} else {
		clock := &boot.Clock{Dir: data, Built: built(), Servers: boot.PublicServers}
		if settings.NTP != "" {
			clock.Servers = []string{settings.NTP}
		}
		clock.Start()
		busy.Go(func() { clock.Run(ctx) })
		busy.Go(func() { tellTime(ctx, clock) })
		go radio(ctx, settings.Wifi)
		busy.Go(func() { tellHub(ctx) })
		busy.Go(func() { boot.Trims(ctx, data) })
		busy.Go(func() { hub(ctx, dog, up, settings) })
	}
	trial, how := false, unix.LINUX_REBOOT_CMD_RESTART
	select {
	case trial = <-up.restarts():
	case s := <-told:
		if s == syscall.SIGTERM {
			how = unix.LINUX_REBOOT_CMD_POWER_OFF
		}
	}
	go feed(context.WithoutCancel(ctx), dog)
	time.AfterFunc(haltTime, restart) // a card that hangs keeps nothing from starting anew
	halt(end, &busy, func() error { return up.reboot(how, trial) })
}

// prepare makes the data partition ready and gives the owner's settings.
func prepare(disk *boot.Disk) (*boot.Settings, error) {
	if grown, err := disk.GrowPartition(); err != nil {
		log.Printf("the data partition stays as it is: %v", err)
	} else if grown {
		log.Printf("the data partition has got the rest of the disk")
	}
	said, err := disk.OpenData(data, "/bin/e2fsck")
	if err != nil {
		return nil, err
	}
	if len(said) > 0 {
		log.Printf("the check of the data partition said:\n%s", said[max(0, len(said)-2000):])
	}
	noted := boot.KeepCheck(data, said)
	if noted != nil { // a full card must not keep the hub away, which can make room
		log.Printf("keeping what the check said: %v", noted)
	}
	if err := disk.GrowData(data); err != nil {
		log.Printf("%v", err)
	}
	if err := boot.FinishForgetting(data); err != nil {
		log.Printf("%v", err)
	}
	settings, err := takeSettings(disk)
	if err != nil {
		return nil, err
	}
	if err := boot.Lost(data, noted != nil && settings.Reset != boot.ResetFactory); err != nil {
		return nil, err
	}
	dir := data + "/" + boot.HubFolder
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return settings, os.Chown(dir, hubUser, hubUser)
}

// takeSettings reads the owner's file on the boot partition, and blanks it once it is kept.
func takeSettings(disk *boot.Disk) (*boot.Settings, error) {
	unmount, err := disk.MountBoot("/boot")
	if err != nil {
		log.Printf("%v", err)
		unmount = func() {}
	}
	defer unmount()
	settings, taken, err := boot.Keep("/boot/"+boot.SettingsFile, data, judge)
	if err != nil {
		return nil, err
	}
	if settings.Wrong != nil {
		log.Printf("%v; those that the box had go on to hold", settings.Wrong)
	}
	again := false // whether what was asked for has to be asked for at the next start too
	switch settings.Reset {
	case boot.ResetOwner:
		if err := reclaim(settings.Claim); err != nil {
			log.Printf("no new claim code: %v", err)
			again = true
		}
	case boot.ResetClock:
		if err := (&boot.Clock{Dir: data}).Forget(); err != nil {
			log.Printf("the time that was kept stays: %v", err)
			again = true
		}
	}
	if taken && !again {
		if err := boot.Overwrite("/boot/" + boot.SettingsFile); err != nil && settings.Reset == boot.ResetFactory {
			return nil, fmt.Errorf("the box was reset, and each start would do that again, as it cannot be marked as done on the boot partition: %w", err)
		} else if err != nil {
			log.Printf("the settings stay on the boot partition: %v", err)
		}
	}
	if err := unix.Sethostname([]byte(settings.Hostname)); err != nil {
		log.Printf("hostname: %v", err)
	}
	return settings, hubSettings("/run/hearth.toml", settings)
}

// hub keeps the hub running and the watchdog fed.
func hub(ctx context.Context, dog *boot.Watchdog, up *updates, settings *boot.Settings) {
	health := boot.NewHealth(time.Now())
	if err := health.Listen(socket, hubUser); err != nil {
		log.Printf("the hub cannot say how it is: %v", err)
	}
	go boot.Announce(ctx, os.Stdout, health.Said)
	up.run(ctx, settings.UpdateURL, health)
	kick := make(chan struct{}, 1)
	go health.Guard(ctx, dog, kick)
	go func() {
		<-health.Ready()
		up, left := state()
		log.Printf("the hub serves, %s after the kernel started; memory left: %d MB", up, left)
	}()
	boot.Program{
		Path: "/bin/hearth", Args: []string{"serve", "--config", "/run/hearth.toml", "--data-dir", data + "/hearth"},
		Env:  []string{"NOTIFY_SOCKET=" + socket, "HEARTH_BOX_SOCKET=" + boxSocket, fmt.Sprintf("WATCHDOG_USEC=%d", boot.Beat.Microseconds()), claimEnv + settings.Claim, "HOME=" + data + "/hearth", "TMPDIR=/tmp"},
		More: up.env,
		Dir:  data + "/hearth", User: hubUser, Caps: []uintptr{unix.CAP_NET_BIND_SERVICE}, Out: io.Writer(os.Stdout),
		Over: func(err error, printed []byte) {
			log.Printf("the hub ended: %v", err)
			health.Ended()
			up.ended()
			if err := boot.KeepCrash(data+"/crash", time.Now(), err, printed); err != nil {
				log.Printf("keeping what it said: %v", err)
			}
		},
	}.Run(ctx, kick)
}

// feed keeps a box without a hub from being reset, so that its page can be read.
func feed(ctx context.Context, dog *boot.Watchdog) {
	for ctx.Err() == nil {
		dog.Feed()
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

// built is when the image was made: the time of this program's own file.
func built() time.Time {
	st, err := os.Stat("/init")
	if err != nil {
		return time.Unix(0, 0)
	}
	return st.ModTime()
}

// state is how long the kernel runs, and how much memory a program could still have, in MB.
func state() (up time.Duration, left int) {
	var i unix.Sysinfo_t
	if err := unix.Sysinfo(&i); err == nil {
		up = time.Duration(i.Uptime) * time.Second
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return up, 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			left, _ = strconv.Atoi(f[1])
		}
	}
	return up, left >> 10
}

// halt ends all in order: the hub first, then the disk.
func halt(end context.CancelFunc, busy *sync.WaitGroup, reboot func() error) {
	log.Printf("stopping")
	end()
	busy.Wait()
	unix.Sync()
	if err := unix.Unmount(data, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		log.Printf("unmounting the data partition: %v", err)
	}
	if err := reboot(); err != nil {
		log.Printf("%v", err)
	}
	for { // the kernel ends here; the first program must not
		time.Sleep(time.Hour)
	}
}
