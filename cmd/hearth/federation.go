package main

import (
	"fmt"
	"io"
	"time"

	"hearth/engine/federation"
)

const federationHelp = `hearth federation list
hearth federation retry SERVER

Servers that share a room with somebody here are brought what is said there. One that is not reached is waited for,
longer each time, and gets all of it when it is back. While none at all is reached the hub's own link may be down: then
one of them is tried every few seconds, whatever its time.

  list    prints each server: how many entries of the hub's log it is behind, some of which are not for it, how often
          in a row it was not reached, when it is tried next, and the last error
  retry   has a server tried now

      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Example:
  hearth federation list
`

// federationCmd carries out hearth federation.
func federationCmd(args []string, s streams) int {
	return told("federation", federationHelp, s, func() error {
		f := &hubFlags{}
		fs := f.flags()
		words, err := wordsOf(fs, args)
		var o order
		switch {
		case err != nil:
			return err
		case len(words) == 1 && words[0] == "list":
			o = order{Do: "servers"}
		case len(words) == 2 && words[0] == "retry":
			o = order{Do: "server-retry", Name: words[1]}
		default:
			return usage("what shall be done? list, or retry with the name of a server")
		}
		r, err := f.ask(s, o)
		if err != nil {
			return err
		}
		if o.Do == "servers" {
			printServers(s.out, r.Servers, time.Now())
		}
		return nil
	})
}

// printServers writes a line for each server.
func printServers(w io.Writer, list []federation.Destination, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no other server shares a room with anybody here")
	}
	for _, d := range list {
		if d.Failures == 0 && d.Behind == 0 {
			fmt.Fprintf(w, "%-40s in step\n", d.Server)
			continue
		}
		fmt.Fprintf(w, "%-40s %d behind", d.Server, d.Behind)
		if d.Failures > 0 {
			fmt.Fprintf(w, ", not reached %d times since %s, next try in %s: %s", d.Failures, d.Since.UTC().Format(time.RFC3339),
				max(d.Next.Sub(now), 0).Round(time.Second), d.Error)
		}
		fmt.Fprintln(w)
	}
}
