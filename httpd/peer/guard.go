// Package peer is what the hub says to others over HTTP of its own accord: to
// any address by Client, and by Servers to Matrix servers, which it finds by name.
//
// It owns the way out: which addresses may be dialled, for whom. Where a user
// chooses the address (the page of a link preview, a push gateway), the hub
// must not become their way into the network that it stands in, so it refuses
// by the address that is dialled, after the name has been looked up: a name can
// be made to point anywhere, and somewhere else a moment later. Time and answer
// are bounded, and a redirect is an answer like any other unless it is asked
// for. It refuses to try again: whoever asks knows what a second try means.
package peer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Guard dials for users of the hub. Addresses that are not of the public
// internet are refused, unless Allow has them.
type Guard struct {
	Allow   []netip.Prefix
	AnyPort bool // also those of other protocols; for those who speak TLS before anything else
}

// ErrRefused is what Dial wraps where the address may not be dialled.
var ErrRefused = errors.New("peer: this address may not be dialled")

// dialTime is for the look-up and one connection.
const dialTime = 10 * time.Second

// Dial connects to a host and port.
func (g *Guard) Dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !g.Permits(at) {
			return ErrRefused
		}
		return nil
	}}
	return d.DialContext(ctx, "tcp", address)
}

// Permits says whether an address may be dialled. Of the ports below 1024 only
// those of the web may: others speak what a request could be made to look like.
func (g *Guard) Permits(at netip.AddrPort) bool {
	a := at.Addr().Unmap().WithZone("")
	for _, p := range g.Allow {
		if p.Contains(a) {
			return true
		}
	}
	if port := at.Port(); !g.AnyPort && port < 1024 && port != 80 && port != 443 {
		return false
	}
	return public(a)
}

// notPublic are the networks that IANA keeps for special use, besides those that
// package netip knows.
var notPublic = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"), netip.MustParsePrefix("fec0::/10"),
}

// public says whether an address is one of the public internet. An IPv6 address
// that stands for an IPv4 one is judged by that.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	if b := a.As16(); a.Is6() {
		switch {
		case string(b[:12]) == "\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00": // NAT64
			return public(netip.AddrFrom4([4]byte(b[12:])))
		case string(b[:2]) == "\x20\x02": // 6to4
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return true
}

// ParseNetworks reads networks, or single addresses, as an owner writes them.
func ParseNetworks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, errors.New("not a network: " + strconv.Quote(s))
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
