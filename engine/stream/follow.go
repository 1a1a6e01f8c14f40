package stream

import (
	"slices"
)

// A Follower is a reader of the log with a goroutine of its own, which is woken
// only where there is something for it: to wake a goroutine for each event costs
// more than most have to do with it. Its cursor is its own affair.
type Follower struct {
	l     *Log
	mine  func(e *Entry) bool
	news  chan struct{} // holds one where it is to read on
	quiet int           // entries since then that were none of its business
}

// quietMost is after how many entries a follower is woken that has nothing to do
// with them: its cursor is never much further behind, and what it reads then is
// still in memory.
const quietMost = keepRecent / 2

// Follow registers a reader. mine says whether an entry may be its business; it is
// asked once for each, in order, when the entry is on disk and before anybody is
// told so. It runs under a lock of the log, so it must be quick and not call the
// log; where it is in doubt it says yes. Leave has to follow.
func (l *Log) Follow(mine func(e *Entry) bool) *Follower {
	f := &Follower{l: l, mine: mine, news: make(chan struct{}, 1)}
	f.news <- struct{}{} // what came before it is there to be read
	l.wakeMu.Lock()
	l.followers = append(l.followers, f)
	l.wakeMu.Unlock()
	return f
}

// News holds one when there is something to read: the reader takes it, and then
// reads up to the tip.
func (f *Follower) News() <-chan struct{} { return f.news }

// Leave ends it.
func (f *Follower) Leave() {
	f.l.wakeMu.Lock()
	defer f.l.wakeMu.Unlock()
	f.l.followers = slices.DeleteFunc(f.l.followers, func(one *Follower) bool { return one == f })
}

func (f *Follower) poke() {
	f.quiet = 0
	select {
	case f.news <- struct{}{}:
	default: // it is about to read
	}
}

// lead wakes the followers whose business came with the tip's move. It needs wakeMu.
func (l *Log) lead(after, upto Pos) {
	if len(l.followers) == 0 {
		return
	}
	var room [16]recentEntry
	rows, ok := l.recent.between(room[:0], after, upto)
	var e Entry
	for _, r := range rows {
		if ok = ok && e.parse(r.row) == nil; !ok {
			break
		}
		for _, f := range l.followers {
			if f.quiet++; f.mine(&e) || f.quiet >= quietMost {
				f.poke()
			}
		}
	}
	if !ok { // whoever reads it finds out what is wrong
		for _, f := range l.followers {
			f.poke()
		}
	}
}
