package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// senses has each of the -things say once a second what it reads, for so long, and
// says what the block device is written for it, and what that comes to in a day.
// The first minutes are not counted: what a hub does once is not what it does all
// day.
func (o *options) senses() error {
	if len(o.members) == 0 {
		return fmt.Errorf("-sensors needs -things")
	}
	errs := make([]error, len(o.members))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range o.members {
		all.Go(func() { errs[i] = o.sense(i, stop) })
	}
	began, last := time.Now(), time.Now()
	time.Sleep(o.warm)
	at, disk := time.Now(), written(o.dev)
	before := disk
	for time.Since(began) < o.warm+o.sensors {
		time.Sleep(min(time.Minute, time.Until(began.Add(o.warm+o.sensors))))
		now := written(o.dev)
		fmt.Printf("%v: %d KB in %v\n", time.Since(began).Round(time.Second), (now-before)/1000, time.Since(last).Round(time.Second))
		before, last = now, time.Now()
	}
	took := time.Since(at)
	bytes := written(o.dev) - disk
	close(stop)
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d things, one sample a second each: %d bytes in %v, %.1f MB a day\n",
		len(o.members), bytes, took.Round(time.Second), float64(bytes)/took.Seconds()*86400/1e6)
	return nil
}

// sense is one thing with a reading that wanders.
func (o *options) sense(i int, stop chan struct{}) error {
	m := o.member(i)
	c, r, err := o.dialAs(m, fmt.Sprintf("sensor%d", i), true)
	if err != nil {
		return err
	}
	defer c.Close()
	go func() {
		var buf []byte
		for failed := error(nil); failed == nil; {
			_, buf, failed = packet(r, buf)
		}
	}()
	temperature, humidity := 2000+rand.IntN(500), 400+rand.IntN(200)
	topic := m.topic("reading")
	head, id := byte(0x31), []byte(nil)
	if o.acked {
		head, id = 0x33, []byte{0, 1}
	}
	beat := time.NewTimer(time.Duration(rand.Int64N(int64(time.Second))))
	for n := uint16(1); ; n++ {
		select {
		case <-stop:
			return nil
		case <-beat.C:
		}
		beat.Reset(time.Second)
		temperature += rand.IntN(11) - 5
		humidity += rand.IntN(5) - 2
		text := fmt.Sprintf(`{"temperature": %d.%02d, "humidity": %d.%d}`, temperature/100, temperature%100, humidity/10, humidity%10)
		if o.acked {
			binary.BigEndian.PutUint16(id, n|1)
		}
		p := binary.AppendUvarint([]byte{head}, uint64(2+len(topic)+len(id)+len(text)))
		p = append(append(p, 0, byte(len(topic))), topic...)
		if _, err := c.Write(append(append(p, id...), text...)); err != nil {
			return err
		}
	}
}
