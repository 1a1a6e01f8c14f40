package keyring

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"hearth/engine/edkey"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// BenchmarkVerifyEvents is the signatures of a join: 5,000 events whose
// servers' keys are known, with all that is done for an event on the way.
func BenchmarkVerifyEvents(b *testing.B) {
	for _, servers := range []int{20, 500} {
		w := newWorld()
		k := w.ring(b, Options{})
		var events []*event.Event
		for i := range servers {
			s := w.server(mxid.Server(fmt.Sprintf("s%d", i)))
			for j := range 5000 / servers {
				events = append(events, message(b, "10", s, w.now.Add(-time.Duration(j)*time.Second)))
			}
		}
		check := func() {
			for _, err := range verify(k, events...) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		check()
		b.Run(fmt.Sprintf("%d_servers", servers), func(b *testing.B) {
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for range b.N {
				k.checker = edkey.New(k.o.TableBytes)
				check()
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N*len(events)), "cpu-µs/event")
		})
	}
}
