package peer

import (
	"context"
	"errors"
	"net/netip"

	"hearth/engine/mxid"
)

// Sighting is how a server looks from here.
type Sighting struct {
	Name   mxid.Server // under which it is looked for: its own, or what its .well-known names
	Well   error       // why its .well-known was of no use; nil where it was, and where none is asked for
	Places []Place     // where it is, best first
	Failed error       // why no connection with a good certificate came about; nil: one did
}

// Place is one host of a server.
type Place struct {
	Host  string
	Port  uint16
	Addrs []netip.Addr
	Err   error // why there are none
}

// Look finds a server as others do, for its owner to see, and shakes hands with
// it. It keeps nothing and asks for all anew.
func (s *Servers) Look(ctx context.Context, name mxid.Server) *Sighting {
	look := &Sighting{Name: name}
	host, port := split(name)
	if _, err := netip.ParseAddr(host); err != nil && port == 0 {
		var got well
		if got, look.Well = s.askWell(ctx, "https://"+host+"/.well-known/matrix/server"); look.Well == nil {
			look.Name = got.to
		}
	}
	failed := &unreached{}
	_, targets := s.places(ctx, look.Name, failed)
	for _, t := range targets {
		p := Place{Host: t.Host, Port: t.Port}
		p.Addrs, p.Err = s.dns.Addrs(ctx, t.Host)
		look.Places = append(look.Places, p)
	}
	c, err := s.greet(ctx, look.Name)
	if err != nil {
		look.Failed = err
		return look
	}
	_ = c.Close() // it was only to see
	return look
}

// Mismatch says whether an error is that of somebody who answered, and whose
// certificate was no good.
func Mismatch(err error) bool {
	var u *unreached
	return errors.As(err, &u) && u.shown
}
