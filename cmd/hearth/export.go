package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine/fault"
	"hearth/engine/telemetry"
	"hearth/engine/topic"
)

const exportHelp = `hearth export [--topic FILTER] [--format csv|line|prometheus] [--since TIME] [--until TIME]

Prints what sensors said on topics that are mapped as telemetry. A running hub is asked, or the data folder of one that
does not run is read.

      --topic FILTER       topics to print, default #
      --format FORMAT      csv (default), line (InfluxDB line protocol) or prometheus (the last values)
      --since TIME         2026-05-04T08:00:00Z, or how long ago as 36h; default 24h
      --until TIME         in the same way; default now
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Example:
  hearth export --topic 'porch/#' --since 168h > week.csv
`

// export prints samples.
func export(args []string, s streams) int {
	return told("export", exportHelp, s, func() error {
		f := &hubFlags{}
		o := order{Do: "export"}
		since, until := "24h", "-24h" // to the end: the hub's clock may be ahead of this one
		fs := f.flags()
		fs.StringVar(&o.Name, "topic", "#", "")
		fs.StringVar(&o.Format, "format", "csv", "")
		fs.StringVar(&since, "since", since, "")
		fs.StringVar(&until, "until", until, "")
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) > 0:
			return usage("unexpected argument %q", words[0])
		}
		now := time.Now().Add(time.Millisecond) // the end is left out, and what came just now is not
		if o.From, err = moment(since, now); err == nil {
			o.Until, err = moment(until, now)
		}
		if err == nil {
			err = topic.CheckFilter(o.Name)
		}
		if err != nil {
			return usage("%w", err)
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		return exportTo(c, o, s.out)
	})
}

// moment reads a time, or how long ago it was, as milliseconds.
func moment(text string, now time.Time) (int64, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d).UnixMilli(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a time as 2026-05-04T08:00:00Z nor how long ago as 36h", text)
	}
	return t.UnixMilli(), nil
}

// exportTo has a running hub print, or reads the folder.
func exportTo(c *config.Config, o order, w io.Writer) error {
	conn, err := dialControl(c.DataDir)
	if err != nil {
		if _, serr := os.Stat(c.DataDir); serr != nil {
			return fmt.Errorf("there is no hub in %s: %w", folder(c), serr)
		}
		a, done, err := ownEngine(c)
		if err != nil {
			return err
		}
		defer done()
		return a.export(w, o)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return fmt.Errorf("the hub does not listen: %w", err)
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	var r report
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the hub does not answer: %w", err)
	case r.Error != "":
		return errors.New(r.Error)
	}
	_, err = io.Copy(w, in)
	return err
}

func (a admin) export(w io.Writer, o order) error {
	switch telemetry.Format(o.Format) {
	case telemetry.CSV, telemetry.Line, telemetry.Prometheus:
	default:
		return fault.E(fault.Invalid, "hearth.export", "there is no format %q; csv, line and prometheus there are", o.Format)
	}
	return a.engine.Telemetry.Export(w, telemetry.Format(o.Format), o.Name, o.From, o.Until)
}

// streamExport answers an export on the control socket: a report, and what it
// announces behind it.
func (c *control) streamExport(conn net.Conn, o order) {
	if conn.SetDeadline(time.Now().Add(answerTime)) != nil {
		return
	}
	out := &afterReport{conn: conn}
	w := bufio.NewWriter(out)
	err := c.admin.export(w, o)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = out.Write(nil) // nothing was to be told
	}
	if err != nil && !out.began {
		_ = json.NewEncoder(conn).Encode(report{Error: plainText(err)}) // whoever asked has gone where this fails
	}
}

// afterReport puts an empty report before the first byte.
type afterReport struct {
	conn  net.Conn
	began bool
}

func (a *afterReport) Write(b []byte) (int, error) {
	if !a.began {
		a.began = true
		if err := json.NewEncoder(a.conn).Encode(report{}); err != nil {
			return 0, err
		}
	}
	return a.conn.Write(b)
}
