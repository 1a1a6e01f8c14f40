package main

import (
	"fmt"
	"net"
	"slices"

	"hearth/httpd/mdns"
)

// found has a service announced on the local network, where others can reach its
// listener. Of two listeners for the same service the first is announced.
func (h *hub) found(at net.Addr, s mdns.Service) {
	a, ok := at.(*net.TCPAddr)
	if !ok || a.IP.IsLoopback() || slices.ContainsFunc(h.finds, func(o mdns.Service) bool { return o.Type == s.Type }) {
		return
	}
	s.Port = uint16(a.Port)
	h.finds = append(h.finds, s)
}

// announce has the hub found. One that cannot be, because port 5353 or multicast is
// not to be had, serves all the same.
func (h *hub) announce() {
	if !h.config.MDNS || len(h.finds) == 0 {
		return
	}
	var err error
	h.mdns, err = mdns.Open(mdns.Options{Services: h.finds, Log: func(format string, args ...any) { h.log.Info(fmt.Sprintf(format, args...)) }})
	if err != nil {
		h.log.Warn("the hub is not found on the local network", "err", err)
	}
}
