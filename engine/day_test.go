package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/mqtt"
	"hearth/engine/store"
	"hearth/engine/telemetry"
)

// What 200 things cost the disk that send a reading a second with QoS 0 and the
// retain flag, by what the store writes it for. HEARTH_DAY is how many hours are
// played, HEARTH_DAY_DIR the folder, whose block device can be watched.
func TestTelemetryBytes(t *testing.T) {
	hours, things := 1, 200
	if text := os.Getenv("HEARTH_DAY"); text != "" {
		hours, _ = strconv.Atoi(text)
	}
	files := &countFS{FS: vfs.NewMem(), bytes: map[vfs.DiskWriteCategory]int64{}}
	dir := os.Getenv("HEARTH_DAY_DIR")
	if dir != "" {
		files.FS = vfs.Default
	}
	st, err := store.Open(store.Options{FS: files, Dir: dir + "/db"})
	if err != nil {
		t.Fatal(err)
	}
	start := time.UnixMilli(1_700_000_000_000)
	var since atomic.Int64 // the broker looks at the clock by itself too
	clock := func() time.Time { return start.Add(time.Duration(since.Load())) }
	var b *mqtt.Broker
	log, err := telemetry.Open(st, telemetry.Options{Now: clock, Along: func() {
		if err := b.WriteRetained(); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err = mqtt.Open(mqtt.Options{Store: st, Now: clock, Limits: mqtt.Limits{RetainedSeconds: 1 << 30}})
	if err != nil {
		t.Fatal(err)
	}
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	var temperature, humidity [200]int
	for i := range things {
		temperature[i], humidity[i] = 2000+r.IntN(500), 400+r.IntN(200)
	}
	for second := range hours * 3600 {
		for i := range things {
			temperature[i] += r.IntN(11) - 5
			humidity[i] += r.IntN(5) - 2
			// In their order, each with its jitter of a few milliseconds.
			since.Store(int64(time.Duration(second)*time.Second + time.Duration(i*5+r.IntN(3))*time.Millisecond))
			text := fmt.Appendf(nil, `{"temperature": %d.%02d, "humidity": %d.%d}`, temperature[i]/100, temperature[i]%100, humidity[i]/10, humidity[i]%10)
			topic := "s" + strconv.Itoa(i) + "/reading"
			if err := log.Add(topic, text, nil); err != nil {
				t.Fatal(err)
			}
			if second%60 != 59 { // only the last is kept: the others are not worth the time
				continue
			}
			if err := b.Publish(context.Background(), &mqtt.Message{Topic: topic, Payload: text, Retain: true}); err != nil {
				t.Fatal(err)
			}
		}
		if second%60 == 59 {
			if err := log.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := 0 // retained values that went along with the samples
	if err := st.ScanPrefix(store.Retained.Prefix(), func(_, _ []byte) (bool, error) { rows++; return true, nil }); err != nil || rows != things {
		t.Errorf("%d values are retained: %v", rows, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	files.mu.Lock()
	defer files.mu.Unlock()
	for c, n := range files.bytes {
		t.Logf("%-30s %6.1f KB a minute", c, float64(n)/float64(hours)/60e3)
	}
	// Tables and what the file system notes of its own come to as much again.
	if n := files.bytes["pebble-wal"] / int64(hours) / 60; n > 50_000 {
		t.Errorf("the log has %d bytes a minute", n)
	}
}

// countFS counts what is written, by what for.
type countFS struct {
	vfs.FS
	mu    sync.Mutex
	bytes map[vfs.DiskWriteCategory]int64
}

func (c *countFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	return c.count(f, err, category)
}

func (c *countFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(old, name, category)
	return c.count(f, err, category)
}

func (c *countFS) count(f vfs.File, err error, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &countFile{f, c, category}, nil
}

type countFile struct {
	vfs.File
	c        *countFS
	category vfs.DiskWriteCategory
}

func (f *countFile) add(what vfs.DiskWriteCategory, n int) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.bytes[what] += int64(n)
}

func (f *countFile) Write(p []byte) (int, error) {
	f.add(f.category, len(p))
	return f.File.Write(p)
}

// WriteAt is what fills logs with zeros.
func (f *countFile) WriteAt(p []byte, at int64) (int, error) {
	f.add("zeros in "+f.category, len(p))
	return f.File.WriteAt(p, at)
}
