package mdns

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups that all listen to.
var (
	group4 = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 251}), port)
	group6 = netip.AddrPortFrom(netip.MustParseAddr("ff02::fb"), port)
)

// maxPacket is the longest packet that is read. Spec: RFC 6762, 17.
const maxPacket = 9000

// maxAddrs bounds the addresses that are told of one interface.
const maxAddrs = 8

// System lists the interfaces of this machine on which others can be.
func System() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []Interface
	for _, i := range all {
		const need = net.FlagUp | net.FlagMulticast
		if i.Flags&need != need || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		one := Interface{Index: i.Index}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && len(one.Prefixes) < maxAddrs {
				one.Prefixes = append(one.Prefixes, netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()))
			}
		}
		if len(one.Prefixes) > 0 {
			list = append(list, one)
		}
	}
	return list, nil
}

// sockets are the two families'; one that the system does not have is nil.
type sockets struct {
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

// Open begins to answer.
func Open(o Options) (*Responder, error) {
	if o.Interfaces == nil {
		o.Interfaces = System
	}
	r := newResponder(o)
	var s sockets
	// Not net.ListenMulticastUDP, which joins the group at once and so fails where the
	// machine has no network yet: the interfaces come when they come.
	c4, err4 := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(group4))
	if err4 == nil {
		s.v4 = ipv4.NewPacketConn(c4)
		err4 = errors.Join(s.v4.SetControlMessage(ipv4.FlagInterface, true), s.v4.SetMulticastTTL(255), s.v4.SetMulticastLoopback(true))
	}
	c6, err6 := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(group6))
	if err6 == nil {
		s.v6 = ipv6.NewPacketConn(c6)
		err6 = errors.Join(s.v6.SetControlMessage(ipv6.FlagInterface, true), s.v6.SetMulticastHopLimit(255), s.v6.SetMulticastLoopback(true))
	}
	r.end = func() (err error) {
		if c4 != nil {
			err = c4.Close()
		}
		if c6 != nil {
			err = errors.Join(err, c6.Close())
		}
		return err
	}
	if err4 != nil && err6 != nil {
		_ = r.end()
		return nil, err4
	}
	r.send = s.send
	list, _, err := r.look()
	if err != nil {
		return nil, errors.Join(err, r.end())
	}
	s.join(list)
	if s.v4 != nil {
		r.all.Go(func() { r.read4(s.v4) })
	}
	if s.v6 != nil {
		r.all.Go(func() { r.read6(s.v6) })
	}
	r.all.Go(r.run)
	r.all.Go(func() {
		for r.pause(lookEvery) {
			if list, changed, err := r.look(); err == nil && changed {
				s.join(list)
				r.rouse()
			}
		}
	})
	return r, nil
}

// join listens on the interfaces; on those where it does already it fails.
func (s *sockets) join(list []Interface) {
	for _, i := range list {
		iface := &net.Interface{Index: i.Index}
		if s.v4 != nil {
			_ = s.v4.JoinGroup(iface, net.UDPAddrFromAddrPort(group4))
		}
		if s.v6 != nil {
			_ = s.v6.JoinGroup(iface, net.UDPAddrFromAddrPort(group6))
		}
	}
}

// send sends to one, or to the groups. What a link does not take is lost, as
// packets are.
func (s *sockets) send(ifi int, to netip.AddrPort, packet []byte) {
	if s.v4 != nil && (!to.IsValid() || to.Addr().Is4()) {
		dst := to
		if !to.IsValid() {
			dst = group4
		}
		_, _ = s.v4.WriteTo(packet, &ipv4.ControlMessage{IfIndex: ifi}, net.UDPAddrFromAddrPort(dst))
	}
	if s.v6 != nil && (!to.IsValid() || !to.Addr().Is4()) {
		dst := to
		if !to.IsValid() {
			dst = group6
		}
		_, _ = s.v6.WriteTo(packet, &ipv6.ControlMessage{IfIndex: ifi}, net.UDPAddrFromAddrPort(dst))
	}
}

func (r *Responder) read4(c *ipv4.PacketConn) {
	buf := make([]byte, maxPacket)
	for {
		n, cm, from, err := c.ReadFrom(buf)
		if err != nil {
			if !r.pause(readPause(err)) {
				return
			}
			continue
		}
		if cm != nil {
			r.packet(cm.IfIndex, from, buf[:n])
		}
	}
}

func (r *Responder) read6(c *ipv6.PacketConn) {
	buf := make([]byte, maxPacket)
	for {
		n, cm, from, err := c.ReadFrom(buf)
		if err != nil {
			if !r.pause(readPause(err)) {
				return
			}
			continue
		}
		if cm != nil {
			r.packet(cm.IfIndex, from, buf[:n])
		}
	}
}

// readPause is how long a socket that failed rests; one that was closed is so
// because the responder ends.
func readPause(err error) time.Duration {
	if errors.Is(err, net.ErrClosed) {
		return time.Hour
	}
	return time.Second
}

func (r *Responder) packet(ifi int, from net.Addr, packet []byte) {
	if a, ok := from.(*net.UDPAddr); ok {
		at := a.AddrPort()
		r.came(ifi, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), packet, time.Now())
	}
}
