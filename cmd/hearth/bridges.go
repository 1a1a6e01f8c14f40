package main

import (
	"fmt"

	"hearth/cmd/internal/config"
)

const bridgesHelp = `hearth bridges

Says where the bridges and other application services of a running hub stand: what each has not been told yet, and why.
What a service has missed is kept for it, however long it is away; it gets everything, in order, when it is back.

Which services there are the setting appservices says; hearth check reads their registrations. A running hub reads them
again when it gets the signal HUP.

      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    no hub is running, or it cannot say
  2    wrong usage
`

// bridges prints where the application services stand.
func bridges(args []string, s streams) int {
	return told("bridges", bridgesHelp, s, func() error {
		f := &hubFlags{}
		fs := f.flags()
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) > 0:
			return usage("bridges takes no words")
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		r, err := askHub(c.DataDir, order{Do: "services"})
		if err != nil {
			return err
		}
		if len(r.Services) == 0 {
			fmt.Fprintln(s.out, "The hub has no application services.")
		}
		for _, line := range r.Services {
			fmt.Fprintln(s.out, line)
		}
		return nil
	})
}

// services says where all of them stand.
func (a admin) services() (r report, err error) {
	list, err := a.engine.AppServices.Statuses()
	for _, one := range list {
		r.Services = append(r.Services, one.String())
	}
	return r, err
}

// registered describes the application services of the settings; what is wrong
// with them Check says.
func registered(c *config.Config) (all []string) {
	set, err := c.Services()
	if err != nil {
		return nil
	}
	for _, s := range set.All() {
		where := s.URL
		if where == "" {
			where = "nowhere: it is told nothing"
		}
		all = append(all, fmt.Sprintf("bridges         %s as @%s, at %s", s.ID, s.Sender.Localpart(), where))
	}
	return all
}
