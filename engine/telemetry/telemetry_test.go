package telemetry

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
)

type fixture struct {
	t   *testing.T
	now time.Time
	st  *store.Store
	*Log
}

func openOn(t *testing.T, fs vfs.FS, now time.Time, o Options) *fixture {
	t.Helper()
	f := &fixture{t: t, now: now}
	var err error
	if f.st, err = store.Open(store.Options{Dir: "db", FS: fs}); err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return f.now }
	if f.Log, err = Open(f.st, o); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) all(topic string) string {
	f.t.Helper()
	var got []string
	f.ok(f.Each(topic, 0, f.now.UnixMilli()+1, func(_ int64, p []byte) bool {
		got = append(got, string(p))
		return true
	}))
	return strings.Join(got, " ")
}

var start = time.Date(2026, 5, 4, 23, 59, 58, 0, time.UTC)

func TestSamplesComeBack(t *testing.T) {
	fs := vfs.NewMem()
	f := openOn(t, fs, start, Options{})
	want := ""
	for i := range 10 { // over midnight
		f.ok(f.Add("a/t", fmt.Appendf(nil, "%d.5", i), nil))
		f.ok(f.Add("b/t", []byte("on"), nil))
		if want += fmt.Sprintf(" %d.5", i); i == 6 {
			f.ok(f.Flush())
		}
		if got := f.all("a/t"); got != want[1:] {
			t.Fatalf("%q, not %q", got, want[1:])
		}
		f.now = f.now.Add(time.Second)
	}
	f.ok(f.Flush())
	f.ok(f.st.Close())
	f = openOn(t, fs, f.now, Options{})
	defer f.st.Close()
	if got := f.all("a/t"); got != want[1:] {
		t.Fatalf("after a restart %q, not %q", got, want[1:])
	}
	if got := fmt.Sprint(f.Topics("+/t"), f.Topics("a/#"), f.Topics("x")); got != "[a/t b/t] [a/t] []" {
		t.Error(got)
	}
}

func TestRange(t *testing.T) {
	f := openOn(t, vfs.NewMem(), start, Options{})
	defer f.st.Close()
	for i := range 120 {
		f.ok(f.Add("x", fmt.Appendf(nil, `{"t":%d.5,"on":true,"h":{"v":%d}}`, i%60, 60-i%60), nil))
		if i%25 == 0 {
			f.ok(f.Flush())
		}
		f.now = f.now.Add(time.Second)
	}
	at := time.Duration(start.UnixNano())
	got, err := f.Range("x", "*", at, at+2*time.Minute, time.Minute)
	f.ok(err)
	if len(got) != 2 || got[0].Field != "h.v" || got[1].Field != "t" || len(got[1].Points) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, p := range got[1].Points {
		if p.Count != 60 || p.Min != 0.5 || p.Max != 59.5 || p.Mean != 30 || p.Last != 59.5 {
			t.Errorf("%+v", p)
		}
	}
	if got, err = f.Range("x", "t", at, at+time.Minute, 10*time.Second); err != nil || len(got) != 1 || len(got[0].Points) != 6 {
		t.Errorf("%+v %v", got, err)
	}
	// A chunk, or what is in memory, may have samples of other times only.
	for _, span := range [][2]time.Duration{{-time.Hour, 0}, {2 * time.Minute, time.Hour}, {10*time.Second + time.Millisecond, 11 * time.Second}} {
		if got, err := f.Range("x", "*", at+span[0], at+span[1], time.Hour); err != nil || len(got) != 0 {
			t.Errorf("%v: %+v %v", span, got, err)
		}
	}
	if _, err := f.Range("x", "t", at, at+1000*time.Hour, time.Millisecond); !fault.Is(err, fault.Invalid) {
		t.Error("a range without bound:", err)
	}
}

// What was acknowledged is there after a power cut at any moment, once; what was
// not may be.
func TestAcknowledgedSurvivesPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	f := openOn(t, fs, start, Options{})
	acked := map[string]bool{}
	check := func() {
		t.Helper()
		after := openOn(t, fs.CrashClone(vfs.CrashCloneCfg{}), f.now, Options{})
		defer after.st.Close()
		got := strings.Fields(after.all("q"))
		seen := map[string]bool{}
		for _, p := range got {
			if seen[p] {
				t.Fatalf("%s is there twice", p)
			}
			seen[p] = true
		}
		for p := range acked {
			if !seen[p] {
				t.Fatalf("%s was acknowledged and is lost; there are %v", p, got)
			}
		}
	}
	for i := range 60 {
		p := fmt.Sprintf("%d.25", i)
		done := func(err error) { f.ok(err); acked[p] = true }
		if i%3 == 0 {
			done = nil
		}
		f.ok(f.Add("q", []byte(p), done))
		f.now = f.now.Add(time.Second)
		switch {
		case i%7 == 3:
			f.ok(f.Acknowledge())
		case i%20 == 19:
			f.ok(f.Flush())
		}
		check()
	}
	if len(acked) < 30 {
		t.Errorf("only %d were acknowledged", len(acked))
	}
	f.ok(f.st.Close())
}

// What nobody waits for may be lost by a power cut for a minute's length, at the
// defaults, and no longer.
func TestAtMostAMinuteIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		f := openOn(t, fs, start, Options{})
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			f.Run(stop, func(err error) { t.Error(err) })
		}()
		lost := 0
		for i := range 300 {
			f.ok(f.Add("q", fmt.Appendf(nil, "%d.25", i), nil))
			time.Sleep(time.Second)
			synctest.Wait()
			f.now = f.now.Add(time.Second)
			if i%7 > 0 {
				continue
			}
			after := openOn(t, fs.CrashClone(vfs.CrashCloneCfg{}), f.now, Options{})
			got := len(strings.Fields(after.all("q")))
			f.ok(after.st.Close())
			lost = max(lost, i+1-got)
		}
		close(stop)
		<-ended
		f.ok(f.st.Close())
		if lost > 60 || lost < 10 {
			t.Errorf("a power cut took %d samples of a second each", lost)
		}
	})
}

// Members of sensors have numbers in their names, which are names all the same.
func TestNamesWithNumbers(t *testing.T) {
	f := openOn(t, vfs.NewMem(), start, Options{})
	defer f.st.Close()
	for i := range 8 {
		f.ok(f.Add("x", fmt.Appendf(nil, `{"Time":"2026-05-04T23:59:5%d","AM2301":{"Temperature":2%d.5},"DS18B20-1":{"Id":"0115A9\"%d"}}`, i, i, i), nil))
		f.ok(f.Add("y", fmt.Appendf(nil, `{"T%d":%d}`, i%2+1, i), nil))
		f.now = f.now.Add(time.Second)
		if i == 4 {
			f.ok(f.Flush())
		}
	}
	at := time.Duration(start.UnixNano())
	got, err := f.Range("x", "*", at, at+time.Minute, time.Minute)
	f.ok(err)
	if len(got) != 1 || got[0].Field != "AM2301.Temperature" || got[0].Points[0].Count != 8 || got[0].Points[0].Max != 27.5 {
		t.Errorf("%+v", got)
	}
	got, err = f.Range("y", "*", at, at+time.Minute, time.Minute)
	f.ok(err)
	if len(got) != 2 || got[0].Field != "T1" || got[1].Field != "T2" || got[0].Points[0].Max != 6 || got[1].Points[0].Max != 7 {
		t.Errorf("%+v", got)
	}
	if got, err = f.Range("y", "T2", at, at+time.Minute, time.Minute); err != nil || len(got) != 1 || got[0].Points[0].Count != 4 {
		t.Errorf("%+v %v", got, err)
	}
	var line, prom bytes.Buffer
	f.ok(f.Export(&line, Line, "y", 0, 1<<50))
	f.ok(f.Export(&prom, Prometheus, "x", 0, 1<<50))
	if !strings.HasPrefix(line.String(), "mqtt,topic=y T1=0 ") || !strings.Contains(prom.String(), `field="AM2301.Temperature"} 27.5 `) {
		t.Errorf("%s%s", line.String(), prom.String())
	}
}

func TestDaysGo(t *testing.T) {
	f := openOn(t, vfs.NewMem(), start, Options{Days: 5})
	defer f.st.Close()
	f.KeepDays(func(topic string) int {
		if topic == "short" {
			return 2
		}
		return 0
	})
	f.ok(f.Add("old", []byte("1"), nil))
	for i := range 10 {
		f.ok(f.Add("x", fmt.Appendf(nil, "%d", i), nil))
		f.ok(f.Add("short", fmt.Appendf(nil, "%d", i), nil))
		f.ok(f.Flush())
		f.ok(f.Clean())
		f.now = f.now.Add(24 * time.Hour)
	}
	if got := f.all("x"); got != "4 5 6 7 8 9" {
		t.Error(got)
	}
	if got := f.all("short"); got != "7 8 9" {
		t.Error(got)
	}
	if got := fmt.Sprint(f.Topics("#")); got != "[short x]" {
		t.Errorf("topics %s", got)
	}
	f.o.Bytes = f.Bytes() / 2
	f.ok(f.Clean())
	if f.Bytes() > f.o.Bytes || f.all("x") == "" {
		t.Errorf("%d bytes of %d, left %q", f.Bytes(), f.o.Bytes, f.all("x"))
	}
}

func TestExport(t *testing.T) {
	f := openOn(t, vfs.NewMem(), time.UnixMilli(1_700_000_000_123), Options{})
	defer f.st.Close()
	f.ok(f.Add("a b/t", []byte(`{"t":21.50,"s":"x"}`), nil))
	f.ok(f.Add("d", []byte("=on,\"x\""), nil))
	f.ok(f.Add("n", []byte("\xff"), nil))
	for _, c := range []struct {
		f    Format
		want string
	}{
		{CSV, "topic,time,payload\na b/t,2023-11-14T22:13:20.123Z,\"{\"\"t\"\":21.50,\"\"s\"\":\"\"x\"\"}\"\nd,2023-11-14T22:13:20.123Z,\"'=on,\"\"x\"\"\"\nn,2023-11-14T22:13:20.123Z,base64:/w==\n"},
		{Line, "mqtt,topic=a\\ b/t t=21.50 1700000000123000000\nmqtt,topic=d text=\"=on,\\\"x\\\"\" 1700000000123000000\nmqtt,topic=n text=\"base64:/w==\" 1700000000123000000\n"},
		{Prometheus, "hearth_telemetry{topic=\"a b/t\",field=\"t\"} 21.5 1700000000123\n"},
	} {
		var b bytes.Buffer
		f.ok(f.Export(&b, c.f, "#", 0, 1<<50))
		if b.String() != c.want {
			t.Errorf("%s:\n%s\nnot\n%s", c.f, b.String(), c.want)
		}
	}
	if err := f.Export(&bytes.Buffer{}, "xml", "#", 0, 1); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	f := openOn(t, vfs.NewMem(), start, Options{})
	defer f.st.Close()
	if err := f.Add("x", make([]byte, maxPayload+1), nil); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	if err := f.Add(strings.Repeat("x", maxTopic+1), nil, nil); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

// BenchmarkWeek reads a week of one-second samples in 2,000 points.
func BenchmarkWeek(b *testing.B) {
	st, err := store.Open(store.Options{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	now := start
	l, err := Open(st, Options{Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	v := 2000
	for i := range 7 * 86400 {
		v += r.IntN(7) - 3
		if err := l.Add("x", fmt.Appendf(nil, `{"temperature":%d.%02d}`, v/100, v%100), nil); err != nil {
			b.Fatal(err)
		}
		if i%60 == 59 {
			if err := l.Flush(); err != nil {
				b.Fatal(err)
			}
		}
		now = now.Add(time.Second)
	}
	from := time.Duration(start.UnixNano())
	for b.Loop() {
		got, err := l.Range("x", "temperature", from, from+7*24*time.Hour, 7*24*time.Hour/2000)
		if err != nil || len(got) != 1 || len(got[0].Points) < 1900 {
			b.Fatal(len(got), err)
		}
	}
}

// BenchmarkDay writes a day of 200 things that send each second, to the folder
// for temporary files: what that costs is read at its block device.
func BenchmarkDay(b *testing.B) {
	for range b.N {
		st, err := store.Open(store.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		now := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
		l, err := Open(st, Options{Now: func() time.Time { return now }})
		if err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 2))
		var temp, hum [200]int
		for i := range temp {
			temp[i], hum[i] = 2100+i, 400+i
		}
		var buf []byte
		for s := range 86400 {
			for i := range temp {
				temp[i], hum[i] = temp[i]+r.IntN(7)-3, hum[i]+r.IntN(5)-2
				buf = fmt.Appendf(buf[:0], `{"temperature":%.2f,"humidity":%.1f}`, float64(temp[i])/100, float64(hum[i])/10)
				now = now.Add(5*time.Millisecond + time.Duration(r.IntN(300)-150)*time.Microsecond)
				if err := l.Add(fmt.Sprintf("sensor/%d/reading", i), buf, nil); err != nil {
					b.Fatal(err)
				}
			}
			if s%60 == 59 {
				if err := l.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(l.Bytes())/1e6, "MB-chunks")
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
