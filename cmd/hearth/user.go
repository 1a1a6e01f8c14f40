package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"hearth/engine/account"
)

const userHelp = `hearth user add NAME [--admin] [--password-file FILE]
hearth user list
hearth user passwd NAME [--password-file FILE]
hearth user deactivate NAME [--erase]
hearth user claim

Manages the users of a hub on this machine. A running hub is asked to do it; where none runs, it is done on the data
folder itself. NAME is alice or @alice:server.

  add         makes an account
  list        prints one user a line: id, since when, and what is special
  passwd      sets a new password and logs all devices out
  deactivate  ends an account for good: devices, password and rooms are gone, the name stays taken
  claim       prints a new claim code, by which the hub's root page makes an admin or gives one a new password

A password is asked for at the terminal, or read as the first line of standard input where that is no terminal.

      --admin              with add: the user may manage the hub
      --erase              with deactivate: forget profile and personal data as well
      --password-file F    file that holds the password
      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    the hub refused, or could not
  2    wrong usage

Examples:
  hearth user add alice --admin
  head -c 18 /dev/urandom | base64 > porch.password
  hearth user add porch-sensor --password-file porch.password
`

// userFlags are the flags behind the word of what to do.
type userFlags struct {
	hubFlags
	admin, erase bool
	passwordFile string
	name         string
}

// user carries out one management command.
func user(args []string, s streams) int {
	return told("user", userHelp, s, func() error {
		do, f, err := parseUser(args)
		if err != nil {
			return err
		}
		o := order{Do: do, Name: f.name, Admin: f.admin, Erase: f.erase}
		if do == "add" || do == "passwd" {
			if o.Password, err = newPassword(f, s); err != nil {
				return err
			}
		}
		return f.carryOut(o, s)
	})
}

// parseUser reads flags before and after the name.
func parseUser(args []string) (do string, f *userFlags, err error) {
	f = &userFlags{}
	fs := f.flags()
	fs.BoolVar(&f.admin, "admin", false, "")
	fs.BoolVar(&f.erase, "erase", false, "")
	fs.StringVar(&f.passwordFile, "password-file", "", "")
	words, err := wordsOf(fs, args)
	if err != nil {
		return "", nil, err
	}
	if len(words) == 0 {
		return "", nil, usage("what shall be done? add, list, passwd, deactivate or claim")
	}
	do = words[0]
	names := map[string]int{"add": 1, "list": 0, "passwd": 1, "deactivate": 1, "claim": 0}
	want, known := names[do]
	switch {
	case !known:
		return "", nil, usage("there is no %q; add, list, passwd, deactivate and claim there are", do)
	case len(words)-1 < want:
		return "", nil, usage("which user? give a name behind %s", do)
	case len(words)-1 > want:
		return "", nil, usage("unexpected argument %q", words[want+1])
	case f.admin && do != "add":
		return "", nil, usage("--admin goes with add only")
	case f.erase && do != "deactivate":
		return "", nil, usage("--erase goes with deactivate only")
	case f.passwordFile != "" && do != "add" && do != "passwd":
		return "", nil, usage("--password-file goes with add and passwd only")
	}
	if want == 1 {
		f.name = words[1]
	}
	return do, f, nil
}

// newPassword gets the password of a new account.
func newPassword(f *userFlags, s streams) (string, error) {
	if f.passwordFile != "" {
		return secretFile(f.passwordFile)
	}
	in, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(s.in, maxOrder)).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			if err != nil && err != io.EOF {
				return "", &failure{exitLocal, err}
			}
			return "", usage("no password for %s: type it into standard input, or give --password-file", f.name)
		}
		return line, nil
	}
	var typed [2]string
	for i, prompt := range []string{"New password of %s: ", "Once more: "} {
		if i == 0 {
			prompt = fmt.Sprintf(prompt, f.name)
		}
		io.WriteString(s.err, prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(s.err)
		if err != nil {
			return "", &failure{exitLocal, err}
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", &failure{exitLocal, errors.New("the two are not the same; nothing was changed")}
	}
	return typed[0], nil
}

// carryOut has the order done by a running hub, or does it.
func (f *userFlags) carryOut(o order, s streams) error {
	do, done, err := f.hub(s)
	if err != nil {
		return err
	}
	defer done()
	if o.Do == "list" {
		return list(do, s)
	}
	r, err := do(o)
	if err != nil {
		return err
	}
	switch o.Do {
	case "add":
		fmt.Fprintf(s.out, "%s is a user of this hub now.\n", r.User)
	case "passwd":
		fmt.Fprintf(s.out, "%s has a new password; all devices were logged out.\n", r.User)
	case "claim":
		fmt.Fprintln(s.out, r.Code)
	case "deactivate":
		fmt.Fprintf(s.out, "%s is deactivated for good.\n", r.User)
	}
	return nil
}

// list prints all users.
func list(do func(order) (report, error), s streams) error {
	for after := uint32(0); ; {
		r, err := do(order{Do: "list", After: after})
		if err != nil {
			return err
		}
		for _, u := range r.Users {
			fmt.Fprintf(s.out, "%-40s %s%s\n", u.ID, u.Created.Format("2006-01-02 15:04"), special(u))
			after = u.Num
		}
		if len(r.Users) < listPage {
			return nil
		}
	}
}

// special says what sets a user apart.
func special(u account.User) string {
	text := ""
	for _, is := range []struct {
		so   bool
		word string
	}{{u.Admin, "admin"}, {u.Guest, "guest"}, {u.Deactivated, "deactivated"}, {u.Locked, "locked"}, {u.Suspended, "suspended"},
		{!u.HasPassword && !u.Guest && !u.Deactivated, "no password"}} {
		if is.so {
			text += "  " + is.word
		}
	}
	return text
}
