package peer

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestPermits(t *testing.T) {
	allow, err := ParseNetworks([]string{"192.168.7.0/24", "10.1.2.3", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseNetworks([]string{"lan"}); err == nil {
		t.Error("lan is a network")
	}
	g := &Guard{Allow: allow}
	for at, want := range map[string]bool{
		"8.8.8.8:443": true, "8.8.8.8:80": true, "8.8.8.8:8008": true, "8.8.8.8:25": false, "8.8.8.8:22": false,
		"127.0.0.1:80": false, "127.9.9.9:80": false, "10.0.0.1:80": false, "172.16.0.1:443": false, "192.168.1.1:80": false,
		"169.254.169.254:80": false, "0.0.0.0:80": false, "0.1.2.3:80": false, "100.64.0.1:80": false, "224.0.0.1:80": false,
		"255.255.255.255:80": false, "198.18.0.1:80": false, "192.0.2.7:80": false,
		"192.168.7.9:80": true, "192.168.7.9:25": true, "192.168.8.9:80": false, "10.1.2.3:80": true, "10.1.2.4:80": false,
		"[2a00:1450::1]:443": true, "[::1]:80": false, "[::]:80": false, "[fe80::1]:80": false, "[fe80::1%eth0]:80": false,
		"[fc00::1]:80": false, "[fd00::1]:80": true, "[ff02::1]:80": false, "[::ffff:127.0.0.1]:80": false, "[::ffff:8.8.8.8]:80": true,
		"[64:ff9b::7f00:1]:80": false, "[64:ff9b::808:808]:80": true, "[2002:7f00:1::]:80": false, "[2002:808:808::]:80": true,
		"[2001:0:1::]:80": false, "[::7f00:1]:80": false, "[2001:db8::1]:80": false,
	} {
		if got := g.Permits(netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
}

// The address is judged when it is dialled, whatever name led to it.
func TestDial(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{ln.Addr().String(), "localhost:" + port} {
		if _, err := (&Guard{}).Dial(t.Context(), address); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
	allow, err := ParseNetworks([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&Guard{Allow: allow}).Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
