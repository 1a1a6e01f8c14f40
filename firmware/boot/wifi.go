package boot

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Wifi is a network that a box is to be in.
type Wifi struct {
	SSID     string // box_wifi_ssid; empty: none
	Password string // box_wifi_password; empty: the network has none
	Country  string // box_wifi_country: two letters, for which channels may be used; empty: those of every country
}

// check says what is wrong with the settings.
func (w Wifi) check() error {
	switch {
	case len(w.SSID) > 32:
		return errors.New("box_wifi_ssid: the name of a network has 32 bytes at most")
	case w.SSID == "" && w.Password != "":
		return errors.New("box_wifi_password needs box_wifi_ssid")
	case w.Country != "" && (len(w.Country) != 2 || strings.Trim(w.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != ""):
		return fmt.Errorf("box_wifi_country: %q is not two capital letters, as DE", w.Country)
	}
	_, err := wifiKey(w.SSID, w.Password)
	return err
}

// How long the radio may take to appear, since its driver loads a program into it, and how often the connection is
// looked at. A try takes seconds, most of them for listening on all channels.
const (
	radioTime = 30 * time.Second
	wifiLook  = 5 * time.Second
	wifiTry   = 20 * time.Second
)

// Run keeps the box in the network until ctx ends. modules lists files of drivers, in order.
func (w Wifi) Run(ctx context.Context, modules, dhcp string) error {
	key, err := wifiKey(w.SSID, w.Password)
	if err != nil {
		return err
	}
	if err := loadModules(modules); err != nil {
		return err
	}
	radio, err := awaitRadio(ctx)
	if err != nil {
		return err
	}
	n, err := openNetlink()
	if err != nil {
		return err
	}
	defer n.close()
	if w.Country != "" {
		if _, err := n.ask(n.family, unix.NL80211_CMD_REQ_SET_REG, attribute(nil, unix.NL80211_ATTR_REG_ALPHA2, []byte(w.Country+"\x00"))); err != nil {
			log.Printf("Wi-Fi: the country: %v", err)
		}
	}
	if err := linkUp(radio.Name); err != nil {
		return err
	}
	address := newLease()
	go Program{Path: dhcp, Args: []string{"-interface=" + radio.Name}, Dir: "/tmp"}.Run(ctx, address.anew)
	said := ""
	say := func(text string) {
		if text != said {
			log.Print(text)
		}
		said = text
	}
	for {
		wait, on := wifiLook, carrier(radio.Name)
		address.look(on)
		if on {
			say(fmt.Sprintf("Wi-Fi: connected to %q", w.SSID))
		} else {
			wait = wifiTry
			_, err := n.ask(n.family, unix.NL80211_CMD_CONNECT, connectTo(uint32(radio.Index), w.SSID, key))
			switch {
			case err == unix.EALREADY || err == unix.EINPROGRESS || err == nil:
				say(fmt.Sprintf("Wi-Fi: looking for %q", w.SSID))
			case err == unix.EINVAL && key != nil:
				say("Wi-Fi: this radio cannot do the handshake of WPA2 by itself")
			default:
				say(fmt.Sprintf("Wi-Fi: connecting to %q: %v", w.SSID, err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// loadModules hands the kernel drivers that are not in it. The list names files below its own folder.
func loadModules(list string) error {
	names, err := os.ReadFile(list)
	if errors.Is(err, os.ErrNotExist) {
		return nil // they are in the kernel, or the board has no radio
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		f, err := os.Open(filepath.Join(filepath.Dir(list), name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("the driver %s: %w", name, err)
		}
	}
	return nil
}

// awaitRadio waits for the first interface that is a radio.
func awaitRadio(ctx context.Context) (*net.Interface, error) {
	late := time.After(radioTime)
	for {
		if found, err := filepath.Glob("/sys/class/net/*/phy80211"); err == nil && len(found) > 0 {
			return net.InterfaceByName(filepath.Base(filepath.Dir(found[0])))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return nil, errors.New("this board has no radio that its kernel knows, or the radio's own program is not in the image")
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// carrier says whether an interface is connected.
func carrier(name string) bool {
	n, err := number("/sys/class/net/" + name + "/carrier")
	return err == nil && n == 1
}
