package boot

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a box says to the kernel about Wi-Fi is three questions of generic netlink, so that no library is needed. The
// handshake of WPA2 is the radio's own work: the kernel is handed the key with the wish to connect, as it offers for
// radios that can do that. Raspberry Pi's can. There is no supplicant, so radios that need one do not work.

// Suites of WPA2 with a password; IEEE 802.11, table of cipher and of key management suites.
const (
	suiteCCMP = 0x000fac04
	suitePSK  = 0x000fac02
	wpa2      = 2
)

// attribute appends one to a message, filled up to four bytes.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attribute32(b []byte, kind uint16, value uint32) []byte {
	return attribute(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// connectTo are the attributes of the wish to connect. No key is for a network without a password.
func connectTo(index uint32, ssid string, key []byte) []byte {
	b := attribute32(nil, unix.NL80211_ATTR_IFINDEX, index)
	b = attribute(b, unix.NL80211_ATTR_SSID, []byte(ssid))
	b = attribute32(b, unix.NL80211_ATTR_AUTH_TYPE, 0) // open, as WPA2 begins
	if key == nil {
		return b
	}
	b = attribute(b, unix.NL80211_ATTR_PRIVACY, nil)
	b = attribute32(b, unix.NL80211_ATTR_WPA_VERSIONS, wpa2)
	b = attribute32(b, unix.NL80211_ATTR_CIPHER_SUITES_PAIRWISE, suiteCCMP)
	b = attribute32(b, unix.NL80211_ATTR_CIPHER_SUITE_GROUP, suiteCCMP)
	b = attribute32(b, unix.NL80211_ATTR_AKM_SUITES, suitePSK)
	return attribute(b, unix.NL80211_ATTR_PMK, key)
}

// wifiKey makes the key of a network of a password; nil where there is none. 64 hexadecimal digits are the key itself.
func wifiKey(ssid, password string) ([]byte, error) {
	switch n := len(password); {
	case n == 0:
		return nil, nil
	case n == 64:
		return hex.DecodeString(password)
	case n < 8 || n > 63:
		return nil, errors.New("a Wi-Fi password has 8 to 63 characters")
	}
	return pbkdf2.Key(sha1.New, password, []byte(ssid), 4096, 32)
}

// netlink is a connection to the kernel's part for Wi-Fi.
type netlink struct {
	fd     int
	family uint16
	seq    uint32
}

// openNetlink finds it; an error where the kernel has none.
func openNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	n := &netlink{fd: fd}
	patience := unix.Timeval{Sec: 5}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
	if err == nil {
		var answer []byte
		if answer, err = n.ask(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, attribute(nil, unix.CTRL_ATTR_FAMILY_NAME, []byte("nl80211\x00"))); err == nil {
			n.family, err = familyOf(answer)
		}
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("the kernel's Wi-Fi: %w", err)
	}
	return n, nil
}

func (n *netlink) close() { _ = unix.Close(n.fd) }

// message is a whole one, with the head of netlink and that of generic netlink.
func message(family uint16, seq uint32, command uint8, attributes []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attributes)))
	b = binary.NativeEndian.AppendUint16(b, family)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel knows us
	b = append(b, command, 1, 0, 0)
	return append(b, attributes...)
}

// ask sends a command and waits until it was carried out. It gives the attributes that came with the answer, if any.
func (n *netlink) ask(family uint16, command uint8, attributes []byte) (answer []byte, err error) {
	n.seq++
	if err := unix.Sendto(n.fd, message(family, n.seq, command, attributes), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	b := make([]byte, 16<<10)
	for {
		size, _, err := unix.Recvfrom(n.fd, b, 0)
		if err != nil {
			return nil, err
		}
		more, done, err := readAnswer(b[:size], n.seq)
		if err != nil || done {
			return append(answer, more...), err
		}
		answer = append(answer, more...)
	}
}

// readAnswer goes through one datagram: attributes, and the word that a command was carried out or refused.
func readAnswer(b []byte, seq uint32) (attributes []byte, done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return nil, false, errors.New("an answer that is cut off")
		}
		kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:size]
		ours := binary.NativeEndian.Uint32(b[8:]) == seq
		switch {
		case !ours:
		case kind == unix.NLMSG_ERROR && len(body) >= 4:
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return nil, true, unix.Errno(-code)
			}
			return attributes, true, nil
		case len(body) >= 4:
			attributes = append(attributes, body[4:]...)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return attributes, false, nil
}

// familyOf finds the number of a family in what the kernel says of it.
func familyOf(attributes []byte) (uint16, error) {
	for b := attributes; len(b) >= 4; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:]) == unix.CTRL_ATTR_FAMILY_ID && size >= 6 {
			return binary.NativeEndian.Uint16(b[4:]), nil
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0, errors.New("it is not there")
}
