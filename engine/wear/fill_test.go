package wear

import "testing"

func TestFill(t *testing.T) {
	const day, gb = 86400, 1_000_000_000
	var f Fill
	for i := range int64(40) {
		f.Add(Level{At: i * day, Used: uint64(i) * gb / 10})
		f.Add(Level{At: i*day + 3600, Used: 1}) // the same day
	}
	if len(f) != fillKept || f[0].At != 9*day {
		t.Fatal(f)
	}
	for _, c := range []struct {
		f     Fill
		now   Level
		total uint64
		want  string
	}{
		{f, Level{39 * day, 39 * gb / 10}, 16 * gb, "3.9 GB of 16.0 GB; it fills by 100.0 MB a day, by the last 30 days, and is full in 4 months"},
		{f, Level{39 * day, 39 * gb / 10}, 4 * gb, "3.9 GB of 4.0 GB; it fills by 100.0 MB a day, by the last 30 days, and is full in 1 days"},
		{f, Level{39 * day, gb / 10}, 4 * gb, "100.0 MB of 4.0 GB; it does not fill, by the last 30 days"},
		{f[:1], Level{10 * day, gb}, 4 * gb, "1.0 GB of 4.0 GB; not known yet how fast it fills"},
		{nil, Level{0, gb}, 4 * gb, "1.0 GB of 4.0 GB; not known yet how fast it fills"},
		{f, Level{39 * day, 901 * gb / 1000}, 400 * gb, "901.0 MB of 400.0 GB; it fills by 33 kB a day, by the last 30 days, and is full in more than 50 years"},
	} {
		if got := c.f.Text(c.now, c.total); got != c.want {
			t.Errorf("%q", got)
		}
	}
	f.Add(Level{At: 5 * day, Used: 7})
	if len(f) != 1 || f[0].Used != 7 {
		t.Error("a clock that was set back", f)
	}
	if used, total, err := Space(t.TempDir()); err != nil || used > total || total == 0 {
		t.Error(used, total, err)
	}
}
