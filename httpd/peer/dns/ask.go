package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"
)

// maxStray bounds the packets that are not the answer: somebody is guessing.
const maxStray = 64

// errSilent is an answer that did not come.
var errSilent = errors.New("no answer in time")

// ask asks one name server, in one packet or, where the answer does not fit, by
// TCP. Each question has a socket of its own and so a port that the kernel chose,
// besides a number by chance: an answer is hard to forge.
func ask(ctx context.Context, server netip.AddrPort, q question, limit time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a, err := exchange(ctx, "udp", server, q, true)
	if errors.Is(err, errForm) {
		a, err = exchange(ctx, "udp", server, q, false)
	}
	if errors.Is(err, errTruncated) {
		a, err = exchange(ctx, "tcp", server, q, true)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		err = errSilent
	}
	return a, err
}

// exchange is one question and its answer.
func exchange(ctx context.Context, network string, server netip.AddrPort, q question, edns bool) (*answer, error) {
	id := uint16(rand.Uint32())
	msg, err := pack(id, q, edns)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing is owed to it
	if at, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(at); err != nil {
			return nil, err
		}
	}
	if network == "tcp" {
		return byStream(c, msg, id, q)
	}
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, 4<<10)
	for range maxStray {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if a, err := parse(buf[:n], id, q); !errors.Is(err, errOther) {
			return a, err
		}
	}
	return nil, errOther
}

// byStream asks on a connection, where each message has its length before it.
func byStream(c net.Conn, msg []byte, id uint16, q question) (*answer, error) {
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, err
	}
	return parse(buf, id, q)
}
