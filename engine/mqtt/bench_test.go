package mqtt

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// slowDisk is a memory disk whose log takes its time to sync, as a card does.
type slowDisk struct {
	vfs.FS
	sync time.Duration
}

type slowFile struct {
	vfs.File
	sync time.Duration
}

func (d *slowDisk) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{f, d.sync}, nil
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.Create(name, c))
}

func (d *slowDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.ReuseForWrite(from, to, c))
}

func (f *slowFile) Sync() error     { time.Sleep(f.sync); return f.File.Sync() }
func (f *slowFile) SyncData() error { time.Sleep(f.sync); return f.File.SyncData() }

// Eight publishers with one message in flight each, to a session that is kept,
// on a disk whose sync takes 5 ms: what one sync carries is all that counts.
func BenchmarkSlowSync(b *testing.B) {
	st, err := store.Open(store.Options{Dir: "store", FS: &slowDisk{vfs.NewMem(), 5 * time.Millisecond}})
	if err != nil {
		b.Fatal(err)
	}
	br, err := Open(Options{Store: st, Auth: func(context.Context, *Connect) (Identity, error) { return Identity{}, nil }})
	if err != nil {
		b.Fatal(err)
	}
	connect := func(name string, expiry uint32, answer func(Answer)) *Client {
		l := &Link{Deliver: func(*Delivery) bool { return true }, Answer: answer, Full: func() bool { return false }, Close: func(Reason, string) {}}
		c, _, err := br.Connect(context.Background(), &Connect{ClientID: name, Version: 5}, &Opening{CleanStart: true, Expiry: expiry}, l)
		if err != nil {
			b.Fatal(err)
		}
		c.Start()
		return c
	}
	done := make(chan []Reason, 1)
	connect("reader", 60, func(Answer) {}).Subscribe([]Request{{Filter: "#", QoS: 1}}, 0, func(codes []Reason) { done <- codes })
	<-done
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			acked := make(chan Answer, 1)
			c := connect("writer"+string(rune('0'+i)), 0, func(a Answer) { acked <- a })
			for range b.N / 8 {
				if err := c.Publish(&Message{Topic: "t", Payload: make([]byte, 200), QoS: 1}, 1); err != nil {
					b.Error(err)
					return
				}
				<-acked
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.StopTimer()
	if err := br.Close(); err != nil {
		b.Error(err)
	}
	_ = st.Close() // the memory goes with it
}
