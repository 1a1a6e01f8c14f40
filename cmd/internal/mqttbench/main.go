// Command mqttbench loads an MQTT broker, this hub's or any other, and says how
// many messages a second it takes, how long one is under way, and what an idle
// client costs it. With -serve it is itself a broker that lets everybody in, on
// the hub's own engine: what is measured is the broker and nothing around it.
// With -things it loads a whole hub, as the things whose names and secrets stand
// in a file; with -storm all of them come at once, as after a power cut.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine"
	"hearth/engine/budget"
	"hearth/engine/mqtt"
	"hearth/httpd"
	"hearth/httpd/mqttd"
)

type options struct {
	serve, addr       string
	idle, pid         int
	pubs, inflight, n int
	size, slow        int
	persistent, tls   bool

	things  string  // file of names and secrets
	members []thing // read from it
	storm   bool
	connect int
	half    int
	dev     string

	sensors, warm time.Duration
	acked         bool
}

func main() {
	var o options
	flag.StringVar(&o.serve, "serve", "", "serve a broker at -addr with its data in this folder")
	flag.StringVar(&o.addr, "addr", "127.0.0.1:1883", "the broker's address")
	flag.IntVar(&o.idle, "idle", 0, "connect so many clients and leave them idle; needs -pid")
	flag.IntVar(&o.pid, "pid", 0, "process of the broker, whose memory is read")
	flag.IntVar(&o.pubs, "pubs", 8, "publishers")
	flag.IntVar(&o.inflight, "inflight", 20, "messages that a publisher has under way")
	flag.IntVar(&o.n, "n", 100000, "messages in all")
	flag.IntVar(&o.size, "size", 200, "bytes of a message")
	flag.IntVar(&o.slow, "slow", 0, "after how many messages the subscriber rests for a millisecond")
	flag.BoolVar(&o.persistent, "persistent", false, "the subscriber has a session that is kept")
	flag.BoolVar(&o.tls, "tls", false, "TLS; a client trusts anybody")
	flag.StringVar(&o.things, "things", "", "be the things of this file: a name and its secret on each line")
	flag.BoolVar(&o.storm, "storm", false, "let all -things connect at once, subscribe and publish; again when they have sessions")
	flag.IntVar(&o.connect, "connects", 0, "connect and leave so often, one after another from each of -pubs")
	flag.IntVar(&o.half, "half", 0, "open so many connections that say half of what they should; needs -pid")
	flag.DurationVar(&o.sensors, "sensors", 0, "have each of the -things send a reading a second for so long; needs -dev")
	flag.DurationVar(&o.warm, "warm", 3*time.Minute, "how long -sensors send before bytes are counted")
	flag.BoolVar(&o.acked, "acked", false, "-sensors send with QoS 1")
	flag.StringVar(&o.dev, "dev", "", "block device whose written bytes are counted")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "mqttbench:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	if o.things != "" {
		if err := o.readThings(); err != nil {
			return err
		}
	}
	switch {
	case o.serve != "":
		return serve(o)
	case o.storm:
		return o.storms()
	case o.sensors > 0:
		return o.senses()
	case o.connect > 0:
		return o.connects()
	case o.half > 0:
		return o.halves()
	case o.idle > 0:
		return idle(o)
	}
	return load(o)
}

// serve is a hub's broker without the hub.
func serve(o *options) error {
	shares, err := budget.Plan(0, budget.RAM())
	if err != nil {
		return err
	}
	shares.Apply()
	e, err := engine.Open(engine.Options{Dir: o.serve, Server: "bench.test", CacheBytes: shares.BlockCache, MemTable: int(shares.MemTable)})
	if err != nil {
		return err
	}
	b, err := e.OpenBroker(mqtt.Options{
		Auth: func(_ context.Context, c *mqtt.Connect) (mqtt.Identity, error) {
			return mqtt.Identity{Name: c.Username}, nil
		},
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	})
	if err != nil {
		return err
	}
	s := mqttd.New(mqttd.Options{Broker: b})
	var conf *tls.Config
	if o.tls {
		own, err := httpd.OwnCertificate(o.serve, "bench.test")
		if err != nil {
			return err
		}
		conf = own.Config()
	}
	if _, err := s.Listen(o.addr, conf); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	<-stop
	s.Close(time.Second)
	if err := b.Close(); err != nil {
		return err
	}
	return e.Close()
}

// dial connects a client of MQTT 3.1.1, as one of the things where there are any.
func (o *options) dial(id string, clean bool) (net.Conn, *bufio.Reader, error) {
	return o.dialAs(o.member(0), id, clean)
}

func (o *options) dialAs(m thing, id string, clean bool) (net.Conn, *bufio.Reader, error) {
	var c net.Conn
	var err error
	if o.tls {
		c, err = tls.Dial("tcp", o.addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		c, err = net.Dial("tcp", o.addr)
	}
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.Write(hello(m, id, clean)); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReaderSize(c, o.buffer())
	first, body, err := packet(r, nil)
	if err != nil || first != 0x20 || body[1] != 0 {
		_ = c.Close()
		return nil, nil, fmt.Errorf("%s was not let in: %x %x %v", id, first, body, err)
	}
	return c, r, nil
}

// hello is a CONNECT.
func hello(m thing, id string, clean bool) []byte {
	flags := byte(0)
	if clean {
		flags = 2
	}
	if m.name != "" {
		flags |= 0xc0
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0, 0, byte(len(id))}, id...)
	if m.name != "" {
		body = append(append(body, 0, byte(len(m.name))), m.name...)
		body = append(append(body, 0, byte(len(m.secret))), m.secret...)
	}
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
}

// packet reads one packet into buf.
func packet(r *bufio.Reader, buf []byte) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	body = slices.Grow(buf[:0], int(n))[:n]
	_, err = io.ReadFull(r, body)
	return first, body, err
}

func subscribe(c net.Conn, r *bufio.Reader, filter string) error {
	p := append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	if _, err := c.Write(append(p, 1)); err != nil {
		return err
	}
	first, body, err := packet(r, nil)
	if err != nil || first != 0x90 || body[2] != 1 {
		return fmt.Errorf("not subscribed: %x %x %v", first, body, err)
	}
	return nil
}

// rss is the resident memory of a process in KiB.
func rss(pid int) (kib int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}

func idle(o *options) error {
	before := rss(o.pid)
	began := time.Now()
	for i := range o.idle {
		id := fmt.Sprintf("idle%d", i)
		m := o.member(i)
		c, r, err := o.dialAs(m, id, true)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := subscribe(c, r, m.topic("idle/"+id+"/#")); err != nil {
			return err
		}
	}
	fmt.Printf("%d clients connected in %v\n", o.idle, time.Since(began).Round(time.Millisecond))
	for range 4 {
		time.Sleep(5 * time.Second)
		now := rss(o.pid)
		fmt.Printf("resident %d KiB before, %d KiB now: %.1f KiB for each\n", before, now, float64(now-before)/float64(o.idle))
	}
	return nil
}

// load has publishers send as fast as their messages in flight let them.
func load(o *options) error {
	c, r, err := o.dial("bench-sub", true)
	if o.persistent {
		if err == nil {
			_ = c.Close()
		}
		c, r, err = o.dial("bench-sub", false)
	}
	if err != nil {
		return err
	}
	if err := subscribe(c, r, o.member(0).topic("bench/+")); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, o.pubs+1)
	took := make([]time.Duration, 0, o.n)
	disk := written(o.dev)
	began := time.Now()
	all.Go(func() { took, errs[o.pubs] = o.receive(c, r, took) })
	var acked atomic.Int64
	var published time.Duration
	var pubs sync.WaitGroup
	for i := range o.pubs {
		pubs.Go(func() { errs[i] = o.publish(i, &acked) })
	}
	pubs.Wait()
	published = time.Since(began)
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	received := time.Since(began)
	slices.Sort(took)
	fmt.Printf("%d messages of %d bytes, %d publishers, %d in flight: %.0f/s acknowledged, %.0f/s received; under way: median %v, 99%% %v\n",
		acked.Load(), o.size, o.pubs, o.inflight, float64(acked.Load())/published.Seconds(), float64(len(took))/received.Seconds(),
		took[len(took)/2].Round(time.Microsecond), took[len(took)*99/100].Round(time.Microsecond))
	if o.dev != "" {
		time.Sleep(diskRest)
		fmt.Printf("%.0f bytes a message at %s\n", float64(written(o.dev)-disk)/float64(acked.Load()), o.dev)
	}
	return nil
}

func (o *options) receive(c net.Conn, r *bufio.Reader, took []time.Duration) ([]time.Duration, error) {
	var buf, acks []byte
	total := o.n / o.pubs * o.pubs
	for len(took) < total {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		first, body, err := packet(r, buf)
		if err != nil {
			return took, fmt.Errorf("after %d messages: %w", len(took), err)
		}
		buf = body
		if first>>4 != 3 {
			continue
		}
		n := 2 + int(binary.BigEndian.Uint16(body))
		if first&6 > 0 {
			acks = append(acks, 0x40, 2, body[n], body[n+1])
			n += 2
		}
		took = append(took, time.Duration(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(body[n:]))))
		if o.slow > 0 && len(took)%o.slow == 0 {
			time.Sleep(time.Millisecond)
		}
		if r.Buffered() == 0 || len(acks) > 2048 {
			if _, err := c.Write(acks); err != nil {
				return took, err
			}
			acks = acks[:0]
		}
	}
	_, err := c.Write(acks)
	return took, err
}

func (o *options) publish(i int, acked *atomic.Int64) error {
	c, r, err := o.dial(fmt.Sprintf("bench-pub%d", i), true)
	if err != nil {
		return err
	}
	defer c.Close()
	topic := o.member(0).topic(fmt.Sprintf("bench/%d", i))
	n := 2 + len(topic) + 2 + o.size
	head := binary.AppendUvarint([]byte{0x32}, uint64(n))
	head = append(append(head, 0, byte(len(topic))), topic...)
	free := make(chan uint16, o.inflight)
	for id := range o.inflight {
		free <- uint16(id + 1)
	}
	failed := make(chan error, 1)
	total := o.n / o.pubs
	go func() {
		var buf []byte
		for range total {
			first, body, err := packet(r, buf)
			if err != nil || first != 0x40 {
				failed <- fmt.Errorf("not acknowledged: %x %v", first, err)
				return
			}
			buf = body
			acked.Add(1)
			free <- binary.BigEndian.Uint16(body)
		}
		failed <- nil
	}()
	payload := make([]byte, o.size)
	var out []byte
	for sent := 0; sent < total; {
		id := <-free
		out = binary.BigEndian.AppendUint16(append(out[:0], head...), id)
		binary.BigEndian.PutUint64(payload, uint64(time.Now().UnixNano()))
		out = append(out, payload...)
		sent++
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
	return <-failed
}
