package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"hearth/engine/wear"
)

// wearFile keeps, in the data folder, how much was written to its disk; wearEvery is how often it is written itself.
const (
	wearFile  = "wear.json"
	wearEvery = 6 * time.Hour
)

// wearing counts what is written to the disk of the data folder.
type wearing struct {
	disk *wear.Disk // nil: the folder lies on none that can be read
	path string

	mu    sync.Mutex // guards count
	count wear.Count
}

func watchWear(dir string) *wearing {
	w := &wearing{path: filepath.Join(dir, wearFile)}
	var err error
	if w.disk, err = wear.Find(dir); err != nil {
		return w
	}
	if w.count, err = wear.Load(w.path); err != nil {
		w.disk = nil
	}
	return w
}

// now counts up to now, and gives the sum.
func (w *wearing) now() (wear.Count, bool) {
	if w.disk == nil {
		return wear.Count{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	boot, up, err := wear.Now()
	if err != nil {
		return w.count, false
	}
	written, err := w.disk.Written()
	if err != nil {
		return w.count, false
	}
	w.count.Add(w.disk, boot, written, up)
	if used, _, err := wear.Space(filepath.Dir(w.path)); err == nil {
		w.count.Fill.Add(wear.Level{At: time.Now().Unix(), Used: used})
	}
	return w.count, true
}

// run keeps the count until ctx ends.
func (w *wearing) run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(wearEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		c, ok := w.now()
		if !ok {
			return
		}
		if err := c.Save(w.path); err != nil {
			log.Warn("what was written to the disk is not counted on", "err", err)
		}
	}
}

// worn is what hearth check says of the disk; nothing where the folder or the disk is not there.
func worn(dir string) []string {
	w := watchWear(dir)
	c, ok := w.now()
	if !ok {
		return nil
	}
	all := []string{"writes to       " + c.String(w.disk)}
	if used, total, err := wear.Space(dir); err == nil {
		all = append(all, "has filled      "+c.Fill.Text(wear.Level{At: time.Now().Unix(), Used: used}, total))
	}
	return all
}
