package main

import (
	"fmt"
	"strings"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

const historyHelp = `hearth history purge ROOM --before WHEN [--keep-own]

Removes what a room's history has from before a time or an event, and says when it is done. From the moment it begins
nobody is shown it any more; it goes on by itself when the hub is stopped. The room's state and members stay, and so does
what another server in the room, or a bridge, has not been brought yet and is younger than a week. Other servers keep
what they have. Files that the events named stay: see media_keep_days. To have it done every day, set retention.
To remove an event of 440 bytes writes about 600 bytes to the disk, and gives back 650; a line of some 30 bytes stays.

ROOM is an alias or an id.

      --before WHEN        an age as 90d, 12w or 2y; a day as 2026-01-31; a time as 2026-01-31T12:00:00Z; or the id of
                           the event that the room is to begin with
      --keep-own           what users of this hub have sent stays on the disk, though nobody is shown it
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Example:
  hearth history purge '#sensors:hub.example' --before 90d
`

// historyLook is how often it is asked how far a removal is.
const historyLook = 300 * time.Millisecond

// history carries out hearth history.
func history(args []string, s streams) int {
	return told("history", historyHelp, s, func() error {
		f := &hubFlags{}
		before, keep := "", false
		fs := f.flags()
		fs.StringVar(&before, "before", "", "")
		fs.BoolVar(&keep, "keep-own", false, "")
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) != 2 || words[0] != "purge":
			return usage("what shall be done? purge with a room and --before")
		}
		h, err := historyOf(before, time.Now())
		if err != nil {
			return err
		}
		h.Local = !keep
		ask, done, err := f.hub(s)
		if err != nil {
			return err
		}
		defer done()
		r, err := ask(order{Do: "history-purge", Name: words[1], History: &h})
		for err == nil && !r.History.Done {
			time.Sleep(historyLook)
			r, err = ask(order{Do: "history-status", Name: r.Code})
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%d events are gone, with %s on the disk\n", r.History.Events, kilobytes(r.History.Bytes))
		return nil
	})
}

func kilobytes(n uint64) string {
	if n >= 10<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// historyOf reads the time or event before which a history goes.
func historyOf(text string, now time.Time) (h engine.History, err error) {
	switch {
	case text == "":
		return h, usage("before what? --before says it")
	case strings.HasPrefix(text, "$"):
		if h.Event, err = mxid.ParseEvent(text); err != nil {
			return h, usage("%q is no event id: %w", text, err)
		}
		return h, nil
	}
	if age, err := config.ParseAge(text); err == nil {
		h.Time = now.Add(-time.Duration(age)).UnixMilli()
		return h, nil
	}
	for _, form := range [...]string{time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			h.Time = t.UnixMilli()
			return h, nil
		}
	}
	return h, usage("--before is %q, and no age such as 90d, no day such as 2026-01-31, no time and no event", text)
}

// doHistory begins to remove a room's history, or says how far that is.
func (a admin) doHistory(o order) (r report, err error) {
	if r.Code = o.Name; o.Do == "history-purge" {
		if o.History == nil {
			return r, fault.E(fault.Missing, "hearth.history", "the order does not say what is to go")
		}
		num, err := a.engine.Resolve(o.Name)
		if err != nil {
			return r, err
		}
		if r.Code, err = a.engine.PurgeHistory(num, *o.History); err != nil {
			return r, err
		}
	}
	p, err := a.engine.HistoryPurged(r.Code)
	r.History = &p
	return r, err
}
