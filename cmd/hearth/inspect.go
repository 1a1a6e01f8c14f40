package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"hearth/cmd/internal/config"
	"hearth/engine/budget"
)

// forecast says what a hub with these settings would do.
func forecast(c *config.Config) []string {
	var all []string
	name := c.ServerName
	if name == "" {
		name = trialName + " on an empty data folder, else what that was made for"
	}
	all = append(all, "is called       "+name, "keeps its data  in "+folder(c), "speaks with     "+company(c))
	for _, l := range []struct{ addr, what string }{{c.ClientListen, "for clients, HTTP"}, {c.FederationListen, "TLS"}} {
		if l.addr != "" {
			all = append(all, fmt.Sprintf("listens on      %s (%s)", l.addr, l.what))
		}
	}
	if s, err := budget.Plan(int64(c.MemoryLimit), budget.RAM()); err == nil {
		all = append(all, fmt.Sprintf("takes           %s of memory at most: %s for table blocks, 3 times %s for new writes, %s for events and states",
			budget.Text(s.Limit), budget.Text(s.BlockCache), budget.Text(s.MemTable), budget.Text(s.Records)))
	}
	return append(all, registered(c)...)
}

// inspect looks at the data folder and the addresses, which Check does not.
func inspect(c *config.Config) (all []config.Problem) {
	if c.DataDir == "" {
		return nil
	}
	st, err := os.Stat(c.DataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		all = append(all, config.Problem{Origin: c.Origin("data_dir"), Text: "the folder " + folder(c) + " will be made"})
	case err != nil:
		all = append(all, config.Problem{Origin: c.Origin("data_dir"), Text: err.Error(), Fatal: true})
	case !st.IsDir():
		all = append(all, config.Problem{Origin: c.Origin("data_dir"), Text: folder(c) + " is no folder", Fatal: true})
	}
	if running(c.DataDir) {
		return append(all, config.Problem{Origin: c.Origin("data_dir"), Text: "a hub is running on this folder now"})
	}
	for _, l := range []struct{ key, addr string }{{"client_listen", c.ClientListen}, {"federation_listen", c.FederationListen}} {
		if l.addr == "" {
			continue
		}
		if _, err := net.ResolveTCPAddr("tcp", l.addr); err != nil {
			continue // Check has said so
		}
		ln, err := net.Listen("tcp", l.addr)
		if err != nil {
			all = append(all, config.Problem{Origin: c.Origin(l.key), Text: strings.TrimPrefix(listenError(c, l.key, l.addr, err).Error(), c.Origin(l.key)+": "), Fatal: true})
			continue
		}
		_ = ln.Close() // it was only a trial
	}
	return all
}

// company says which servers the hub speaks with.
func company(c *config.Config) string {
	on, only, err := c.Federates()
	switch {
	case err != nil:
		return "nobody: the setting is wrong"
	case !on:
		return "no other server"
	case len(only) > 0:
		return fmt.Sprintf("%d other servers", len(only))
	}
	return "all servers of the network"
}
