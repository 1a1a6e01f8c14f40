package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// thing is who a client says that it is; the zero thing gives no name.
type thing struct{ name, secret string }

// topic is one that the thing may use.
func (t thing) topic(rest string) string {
	if t.name == "" {
		return rest
	}
	return t.name + "/" + rest
}

func (o *options) readThings() error {
	b, err := os.ReadFile(o.things)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if name, secret, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			o.members = append(o.members, thing{name, secret})
		}
	}
	if len(o.members) == 0 {
		return fmt.Errorf("%s names no things", o.things)
	}
	return nil
}

// member is the thing that client i is.
func (o *options) member(i int) thing {
	if len(o.members) == 0 {
		return thing{}
	}
	return o.members[i%len(o.members)]
}

// buffer is small where there are many clients.
func (o *options) buffer() int {
	if o.storm || o.idle > 0 {
		return 512
	}
	return 64 << 10
}

// diskRest is how long after the last message a disk may still write for them.
const diskRest = 6 * time.Second

// written is how many bytes a block device was given so far.
func written(dev string) (n int64) {
	b, err := os.ReadFile("/sys/block/" + dev + "/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) > 6 {
		_, _ = fmt.Sscan(f[6], &n)
	}
	return n * 512
}

// storms has all things come at once, twice: the first time their sessions are
// made, the second time they are there.
func (o *options) storms() error {
	for _, what := range []string{"new sessions", "sessions that were there"} {
		began := time.Now()
		conns := make([]net.Conn, len(o.members))
		errs := make([]error, len(o.members))
		var all sync.WaitGroup
		for i := range o.members {
			all.Go(func() { conns[i], errs[i] = o.served(i) })
		}
		all.Wait()
		took := time.Since(began)
		for i, err := range errs {
			if err != nil {
				return fmt.Errorf("thing %d: %w", i, err)
			}
			_ = conns[i].Close()
		}
		fmt.Printf("%d things connected, subscribed and published at once (%s): all served after %v\n", len(o.members), what, took.Round(time.Millisecond))
	}
	return nil
}

// served is one thing's way back: in, subscribed, and a message acknowledged.
func (o *options) served(i int) (net.Conn, error) {
	m := o.member(i)
	c, r, err := o.dialAs(m, m.name, false)
	if err != nil {
		return nil, err
	}
	filter, topic := m.topic("#"), m.topic("state")
	p := append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	p = append(append(p, 1), 0x32, byte(6+len(topic)), 0, byte(len(topic)))
	if _, err := c.Write(append(append(p, topic...), 0, 9, 'u', 'p')); err != nil {
		return nil, err
	}
	for answers := 0; answers < 2; {
		first, body, err := packet(r, nil)
		if err != nil {
			return nil, err
		}
		switch first >> 4 {
		case 4, 9:
			answers++
		case 3: // its own message, or what was not acknowledged the time before
			n := 2 + int(body[0])<<8 + int(body[1])
			if first&6 == 0 {
				continue
			}
			if _, err := c.Write([]byte{0x40, 2, body[n], body[n+1]}); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// connects has clients come and go.
func (o *options) connects() error {
	errs := make([]error, o.pubs)
	began := time.Now()
	before := rss(o.pid)
	var all sync.WaitGroup
	for i := range o.pubs {
		all.Go(func() {
			for n := range o.connect / o.pubs {
				c, _, err := o.dialAs(o.member(i), fmt.Sprintf("flood%d-%d", i, n), true)
				if err != nil {
					errs[i] = err
					return
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d connects in %v: %.0f a minute; resident %d KiB before, %d KiB now\n",
		o.connect, took.Round(time.Millisecond), float64(o.connect)/took.Minutes(), before, rss(o.pid))
	return nil
}

// halves opens connections that never become any: silent ones, ones with half a
// CONNECT, and clients whose packet stops in its middle.
func (o *options) halves() error {
	before := rss(o.pid)
	began := time.Now()
	ended := make(chan time.Duration, o.half)
	for i := range o.half {
		c, err := net.Dial("tcp", o.addr)
		if err != nil {
			return err
		}
		m := o.member(i)
		switch p := hello(m, fmt.Sprintf("half%d", i), true); i % 3 {
		case 1:
			_, err = c.Write(p[:len(p)/2])
		case 2:
			_, err = c.Write(append(p, 0x30, 0xff, 0x7f, 0, 1, 'x'))
		}
		if err != nil {
			return err
		}
		go func() {
			r := bufio.NewReaderSize(c, 64)
			for {
				if _, err := r.ReadByte(); err != nil {
					_ = c.Close()
					ended <- time.Since(began)
					return
				}
			}
		}()
	}
	full := rss(o.pid)
	var last time.Duration
	for range o.half {
		last = <-ended
	}
	fmt.Printf("%d half connections: the last was closed after %v; resident %d KiB before, %d KiB while open, %d KiB after\n",
		o.half, last.Round(time.Millisecond), before, full, rss(o.pid))
	return nil
}
