package federation

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// After a time without a link everybody is brought what is theirs within seconds of
// its return, also where the hub was started again meanwhile. A server that alone is
// gone is tried at its times.
func TestOwnLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		num := w.create()
		w.member(num, "@b:one.example", "@b:one.example", "join")
		w.member(num, "@c:two.example", "@c:two.example", "join")
		w.took("one.example")
		w.took("two.example")
		cut := fault.E(fault.Remote, "test", "no route")
		for _, restart := range []bool{false, true} {
			w.fail("one.example", cut)
			w.fail("two.example", cut)
			w.say(num, "1")
			time.Sleep(10 * time.Minute)
			w.say(num, "2")
			if restart {
				w.close()
				w.open()
			}
			time.Sleep(5 * time.Minute)
			w.fail("one.example", nil)
			w.fail("two.example", nil)
			time.Sleep(probeEvery + time.Second)
			w.want("one.example", "1 2")
			w.want("two.example", "1 2")
		}
		time.Sleep(time.Second)
		w.fail("one.example", cut)
		w.say(num, "3")
		w.want("two.example", "3")
		w.mu.Lock()
		w.vain["one.example"] = 0
		w.mu.Unlock()
		for range 20 {
			time.Sleep(30 * time.Second)
			w.say(num, "x")
		}
		synctest.Wait()
		w.mu.Lock()
		// Seven probes until the other is heard of again, and as many tries at its times.
		if n := w.vain["one.example"]; n > 18 {
			t.Errorf("a server that alone is gone was tried %d times in ten minutes", n)
		}
		w.mu.Unlock()
		w.close()
	})
}

// While nobody is reached the probes leave nothing on the disk, and no trace in
// what the owner is told.
func TestProbesWriteNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		num := w.create()
		for _, name := range []string{"one", "two", "three"} {
			w.member(num, mxid.UserID("@b:"+name+".example"), mxid.UserID("@b:"+name+".example"), "join")
		}
		for _, name := range []string{"one", "two", "three"} {
			w.took(mxid.Server(name + ".example"))
			w.fail(mxid.Server(name+".example"), fault.E(fault.Remote, "test", "no route"))
		}
		w.say(num, "1")
		time.Sleep(3 * time.Hour) // the waits have grown to an hour, of which half is chance
		due, states := w.due()
		for time.Until(due) < 20*time.Minute {
			time.Sleep(time.Minute)
			due, states = w.due()
		}
		before, tried := w.written(), w.tried()
		time.Sleep(15 * time.Minute)
		if n := w.tried() - tried; n < 200 {
			t.Errorf("tried %d times in a quarter of an hour", n)
		}
		if after := w.written(); after != before {
			t.Errorf("written: %s, before the probes %s", after, before)
		}
		if _, now := w.due(); now != states {
			t.Errorf("the owner is told %s, before %s", now, states)
		}
		for _, name := range []string{"one", "two", "three"} {
			w.fail(mxid.Server(name+".example"), nil)
		}
		time.Sleep(probeEvery + time.Second)
		for _, name := range []string{"one", "two", "three"} {
			w.want(mxid.Server(name+".example"), "1")
		}
	})
}

// written is what the store says of its write-ahead log.
func (w *world) written() string {
	var report strings.Builder
	w.Parts.Store.Metrics(&report)
	for line := range strings.Lines(report.String()) {
		if strings.Contains(line, "WAL: ") {
			return line
		}
	}
	w.t.Fatal("the store does not tell what was written")
	return ""
}

// tried counts the tries that were in vain.
func (w *world) tried() (n int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tries := range w.vain {
		n += tries
	}
	return n
}

// due is when the first server is tried in any case, and where all stand.
func (w *world) due() (first time.Time, all string) {
	w.t.Helper()
	list, err := w.Destinations()
	w.must(err)
	for _, d := range list {
		if first.IsZero() || d.Next.Before(first) {
			first = d.Next
		}
		all += fmt.Sprintf("%+v\n", d)
	}
	return first, all
}
