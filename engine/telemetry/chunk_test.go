package telemetry

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestInts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	wander := make([]int64, 60)
	for i := range wander {
		wander[i] = 2150
		if i > 0 {
			wander[i] = wander[i-1] + r.Int64N(7) - 3
		}
	}
	for _, c := range []struct {
		v    []int64
		most int
	}{
		{[]int64{5}, 2}, {[]int64{5, 5, 5, 5}, 2}, {[]int64{math.MaxInt64, math.MinInt64, 0, -1}, 40}, {[]int64{1, 1000000, 2, 3}, 9},
		{wander, 30}, {[]int64{0, 1000, 2001, 2999, 4000}, 10},
	} {
		row := appendInts(nil, c.v)
		rd := reader{src: row}
		if got := rd.ints(len(c.v)); rd.bad || fmt.Sprint(got) != fmt.Sprint(c.v) || len(rd.src) != 0 {
			t.Errorf("%v came back as %v", c.v, got)
		}
		if len(row) > c.most {
			t.Errorf("%v takes %d bytes, more than %d", c.v, len(row), c.most)
		}
	}
}

func roundTrip(t *testing.T, list []Sample) int {
	t.Helper()
	size := 0
	for len(list) > 0 {
		row, n := appendChunk(nil, list)
		c, err := parseChunk(row)
		if err != nil || len(c.times) != n || n == 0 {
			t.Fatalf("%d of %d samples: %v", n, len(list), err)
		}
		for i := range n {
			if got := c.appendPayload(nil, i); !bytes.Equal(got, list[i].Payload) || c.times[i] != list[i].At {
				t.Fatalf("%d %q came back as %d %q", list[i].At, list[i].Payload, c.times[i], got)
			}
		}
		size += len(row)
		list = list[n:]
	}
	return size
}

func TestEveryPayloadComesBack(t *testing.T) {
	for _, payloads := range [][]string{
		{"21.5", "21.50", "21", "-0", "-0.0", "0.10", "1e5", "-1.5e-7", "007", "12345678901234567890", "1.2.3", "--5", "5-4"},
		{`{"t":21.5}`, `{"t":21.0}`, `{"t":-3.25}`}, {`{"t":1.10}`, `{"t":1.15}`}, {"", "", "x"}, {"a\x00b", "1\x002"}, {"\xff\xfe1"},
		{"2026-11-23T03:55:33Z", "2026-11-23T03:55:34Z"}, {`[1,2,[3.5]]`, `[1,2,[3]]`}, {"on", "off", "on"}, {"0.000000000000001", "999999999999999"},
	} {
		var list []Sample
		for i, p := range payloads {
			list = append(list, Sample{int64(1_700_000_000_000 + i*997), []byte(p)})
		}
		roundTrip(t, list)
	}
	var many []Sample
	for i := range 3 * maxShapes {
		many = append(many, Sample{int64(i), fmt.Appendf(nil, "%c%s", 'a'+i%26, bytes.Repeat([]byte("x"), i%100))})
	}
	roundTrip(t, many)
}

// A minute of wandering readings takes few bytes: the budget of a day is made of it.
func TestChunkIsSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	temp, hum := 2150, 452
	var list []Sample
	for i := range 60 {
		temp, hum = temp+r.IntN(7)-3, hum+r.IntN(5)-2
		list = append(list, Sample{int64(1_700_000_000_000 + i*1000 + r.IntN(8)),
			fmt.Appendf(nil, `{"temperature":%d.%02d,"humidity":%d.%d}`, temp/100, temp%100, hum/10, hum%10)})
	}
	if size := roundTrip(t, list); size > 180 {
		t.Errorf("60 samples take %d bytes", size)
	} else {
		t.Logf("60 samples take %d bytes", size)
	}
}

func TestPaths(t *testing.T) {
	shape, _ := cut(nil, []byte(`{"a":1,"b":{"c":[2.5,"7"]},"t":"12:30"} `), nil)
	got := fmt.Sprint(paths(shape))
	if want := "[{a true false} {b.c.0 true false} { false false} { false false} { false false}]"; got != want {
		t.Errorf("%s and not %s", got, want)
	}
	shape, _ = cut(nil, []byte("-4.5"), nil)
	if got := fmt.Sprint(paths(shape)); got != "[{ true false}]" {
		t.Error(got)
	}
}

func FuzzChunk(f *testing.F) {
	f.Add([]byte("21.5"), []byte("21"), []byte(`{"a":-1.50}`), int64(5))
	f.Add([]byte("-0"), []byte("\x00"), []byte("00.10"), int64(-5))
	f.Fuzz(func(t *testing.T, a, b, c []byte, at int64) {
		roundTrip(t, []Sample{{at, a}, {at + 1000, b}, {at + 1990, c}, {at - 7, a}})
		if ch, err := parseChunk(a); err == nil {
			for i := range ch.times {
				ch.appendPayload(nil, i)
			}
		}
	})
}
