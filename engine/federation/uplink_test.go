package federation

import (
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine/fault"
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
		if n := w.vain["one.example"]; n > 10 {
			t.Errorf("a server that alone is gone was tried %d times in ten minutes", n)
		}
		w.mu.Unlock()
		w.close()
	})
}
