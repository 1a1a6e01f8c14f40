package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"hearth/cmd/internal/config"
	"hearth/httpd/clientapi"
)

// about is what the hub's own page tells of it.
func (h *hub) about() clientapi.About {
	c := h.config
	a := clientapi.About{Version: version()}
	if a.Version == "(devel)" || a.Version == "unknown" {
		a.Version = ""
	}
	for _, listen := range c.MQTTListen {
		addr, secure := strings.CutPrefix(listen, config.TLSPrefix)
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			continue // it will not be listened on either
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			host = ""
		}
		scheme := "mqtt://"
		if secure {
			scheme = "mqtts://"
		}
		if host != "" {
			a.MQTT = append(a.MQTT, scheme+net.JoinHostPort(host, port))
		} else {
			a.MQTT = append(a.MQTT, scheme+":"+port)
		}
	}
	host, port, err := net.SplitHostPort(c.ClientListen)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		a.Addresses = func() []string { return addressesAt(port, c.MDNS) }
	}
	return a
}

// news is what the box around the hub shows on its screen, as lines of a message to the supervisor; empty where it is
// what was said before. Others than the box do not know these words, and leave them.
func (h *hub) news(before string) string {
	code, err := h.engine.Accounts.ClaimCode()
	if err != nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(h.config.ClientListen)
	if now := "\nX_HEARTH_PORT=" + port + "\nX_HEARTH_CLAIM=" + code; now != before {
		return now
	}
	return ""
}

// addressesAt are those at which others on the hub's networks reach a port of it.
func addressesAt(port string, named bool) (all []string) {
	for _, host := range ownHosts(named) {
		all = append(all, "http://"+net.JoinHostPort(host, port))
	}
	return all
}

// ownHosts are the names and addresses of this machine on its networks, what is
// told first before others.
func ownHosts(named bool) (all []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			all = append(all, n.IP.String())
		}
	}
	slices.Sort(all)
	if name, err := os.Hostname(); err == nil && named && name != "" && name != "localhost" {
		name, _, _ = strings.Cut(name, ".")
		all = append([]string{name + ".local"}, all...)
	}
	return all
}

// thingAddresses are the addresses that things reach listeners at, which are as in
// the settings.
func thingAddresses(listeners []string, named bool) (all []string) {
	for _, listen := range listeners {
		scheme := "mqtt://"
		addr, secure := strings.CutPrefix(listen, config.TLSPrefix)
		if secure {
			scheme = "mqtts://"
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			continue // it will not be listened on either
		}
		if ip, bad := netip.ParseAddr(host); host == "" || bad == nil && ip.IsUnspecified() {
			host = "127.0.0.1"
			if own := ownHosts(named); len(own) > 0 {
				host = own[0]
			}
		}
		all = append(all, scheme+net.JoinHostPort(host, port))
	}
	return all
}
