package wear

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Level is how full a disk was at a time.
type Level struct {
	At   int64  `json:"at"` // seconds since 1970
	Used uint64 `json:"used"`
}

// Fill is how full the file system of a folder was, about a day apart, the oldest first.
type Fill []Level

const (
	fillEvery  = 20 * time.Hour
	fillKept   = 31 // levels: what was longer ago says little of what comes
	fillEnough = 3 * 24 * time.Hour
)

// Add takes in the level of now, unless the last one is of today. A clock that was set back begins anew.
func (f *Fill) Add(l Level) {
	if n := len(*f); n > 0 {
		last := time.Duration(l.At-(*f)[n-1].At) * time.Second
		switch {
		case last < 0:
			*f = nil
		case last < fillEvery:
			return
		}
	}
	if *f = append(*f, l); len(*f) > fillKept {
		*f = (*f)[len(*f)-fillKept:]
	}
}

// Space reads how many bytes the file system of a folder has, and how many of them are not free.
func Space(folder string) (used, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize)
	return (st.Blocks - min(st.Blocks, st.Bavail)) * size, st.Blocks * size, nil
}

// PerDay is by how many bytes the disk has filled in a day until now, less than 0 where it has emptied; ok is false where
// that is not known yet.
func (f Fill) PerDay(now Level) (rate float64, ok bool) {
	if len(f) == 0 || time.Duration(now.At-f[0].At)*time.Second < fillEnough {
		return 0, false
	}
	return (float64(now.Used) - float64(f[0].Used)) / float64(now.At-f[0].At) * 86400, true
}

// Text says for people how full the disk is, and when it will be full.
func (f Fill) Text(now Level, total uint64) string {
	text := fmt.Sprintf("%s of %s", bytesText(float64(now.Used)), bytesText(float64(total)))
	rate, ok := f.PerDay(now)
	switch left := float64(total) - float64(now.Used); {
	case !ok:
		return text + "; not known yet how fast it fills"
	case rate <= 0:
		return text + "; it does not fill, by the last " + daysText(float64(now.At-f[0].At))
	default:
		return fmt.Sprintf("%s; it fills by %s a day, by the last %s, and is full in %s", text, bytesText(rate), daysText(float64(now.At-f[0].At)), untilText(left/rate))
	}
}

func untilText(days float64) string {
	switch years := days / 365; {
	case years > 50:
		return "more than 50 years"
	case years >= 2:
		return fmt.Sprintf("%.0f years", years)
	case days >= 100:
		return fmt.Sprintf("%.0f months", days/30.4)
	}
	return fmt.Sprintf("%.0f days", days)
}
