package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"hearth/cmd/internal/config"
	"hearth/engine"
	"hearth/engine/budget"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd"
	"hearth/httpd/idapi"
	"hearth/httpd/peer"
	"hearth/httpd/sms"
	"hearth/httpd/wire"
)

// identityRoutes makes the hub an identity service, where the settings want it
// to be one.
func (h *hub) identityRoutes(texts *sms.Sender) ([]wire.Route, error) {
	if !h.config.Identity || h.engine.ReadOnly() {
		return nil, nil
	}
	service, err := h.engine.OpenIdentity()
	if err != nil {
		return nil, err
	}
	return identityAPI(h.config, service, h.mail, texts), nil
}

// identityAPI is the identity service API as the settings want it.
func identityAPI(c *config.Config, s *engine.IdentityService, mail func(to, subject, text string) error, texts *sms.Sender) []wire.Route {
	o := idapi.Options{Records: s.Records, PublicURL: c.PublicURL, Mail: mail, UserInfo: s.UserInfo, Authenticate: s.Authenticate}
	if texts != nil {
		o.Text = texts.Send
	}
	if c.TermsURL != "" {
		o.Terms = []idapi.Policy{{ID: "terms_of_service", Version: "1", Language: "en", Name: "Terms of " + string(s.Records.Name()), URL: c.TermsURL}}
	}
	return idapi.New(o).Routes()
}

// askIdentity asks an identity server for a user: this hub itself where it is the
// one, without HTTP.
func (h *hub) askIdentity(ctx context.Context, q *engine.IdentityQuestion) (int, []byte, error) {
	r := federation.Request{Dest: mxid.Server(q.Server), Method: q.Method, Path: "/_matrix/identity/v2" + q.Path, Body: q.Body}
	own := h.isIdentity(q.Server)
	if own {
		r.Dest = h.engine.Server // as the service is called
	}
	if q.Token != "" {
		r.Authorization = "Bearer " + q.Token
	} else if err := h.engine.Federation.Sign(&r); err != nil {
		return 0, nil, err
	}
	if own {
		return h.askSelf(&wire.Question{Method: r.Method, Path: r.Path, Authorization: r.Authorization, Body: r.Body})
	}
	return h.askPeer(ctx, &peer.Request{
		Method: r.Method, URL: "https://" + q.Server + r.Path, Body: r.Body, Header: map[string][]string{"Authorization": {r.Authorization}},
	})
}

// askLink asks for what stands at a URL of an identity server's.
func (h *hub) askLink(ctx context.Context, link string) (int, []byte, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return 0, nil, fault.E(fault.Invalid, "hearth.identity", "%q is no link", link)
	}
	if h.isIdentity(u.Host) {
		return h.askSelf(&wire.Question{Method: "GET", Path: u.RequestURI()})
	}
	return h.askPeer(ctx, &peer.Request{Method: "GET", URL: link})
}

// isIdentity says whether an identity server is the hub itself.
func (h *hub) isIdentity(name string) bool {
	return h.config.Identity && (name == string(h.engine.Server) || name == hostOf(h.config.PublicURL))
}

// askSelf asks the hub itself.
func (h *hub) askSelf(q *wire.Question) (int, []byte, error) {
	mux := h.mux.Load()
	if mux == nil {
		return 0, nil, fault.E(fault.Busy, "hearth.identity", "the hub is only starting")
	}
	status, answer := mux.Ask(q)
	return status, answer, nil
}

// askPeer asks somebody whom a user has named.
func (h *hub) askPeer(ctx context.Context, r *peer.Request) (int, []byte, error) {
	r.MaxAnswer = 64 << 10
	a, err := h.peers.Do(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	return a.Status, a.Body, nil
}

// hostOf is the host, and the port where it is named, of a URL.
func hostOf(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return u.Host
}

const identityHelp = `hearth identity [flags]

Runs an identity service without a hub, until it is told to stop (SIGTERM, or Ctrl-C): people bind e-mail addresses and
phone numbers to their Matrix users, wherever those are, and are found and invited by them. It needs server_name, which
what it says is signed with, a data_dir of its own and public_url, and takes from the settings of a hub client_listen,
mail_server and what belongs to it, sms_webhook, terms_url, federation, allow_networks, memory_limit, rate_limits and
log_level.

Settings:
`

// identityAlone runs an identity service until the first signal.
func identityAlone(args []string, s streams) int {
	return told("identity", "", s, func() error {
		c, err := settings(args, s, identityHelp, serveExits)
		if err != nil {
			return err
		}
		c.Identity = true
		if err := judge(c, s); err != nil {
			return err
		}
		if c.ServerName == "" || c.ClientListen == "" {
			return usage("server_name and client_listen are needed")
		}
		ctx, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer end()
		return runIdentity(ctx, c, s)
	})
}

// runIdentity serves until ctx ends.
func runIdentity(ctx context.Context, c *config.Config, s streams) (err error) {
	log := newLog(c, s)
	shares, err := budget.Plan(int64(c.MemoryLimit), budget.RAM())
	if err != nil {
		return err
	}
	shares.Apply()
	h := &hub{config: c, log: log} // for the ways out
	ways, err := h.waysOut()
	if err != nil {
		return err
	}
	if h.servers != nil {
		defer h.servers.Close()
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	service, err := engine.OpenIdentity(engine.Options{
		Dir: c.DataDir, Server: mxid.Server(c.ServerName), CacheBytes: shares.BlockCache, MemTable: int(shares.MemTable),
		Federation: federation.Options{Peer: ways.federation.Peer, Allow: ways.federation.Allow},
		Log:        func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
		Fatal: func(format string, args ...any) {
			log.Error("the store cannot go on", "err", fmt.Sprintf(format, args...))
			os.Exit(exitLocal)
		},
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := service.Close(); err == nil {
			err = cerr
		}
	}()
	return serveIdentity(ctx, h, service, s)
}

// serveIdentity opens the door.
func serveIdentity(ctx context.Context, h *hub, service *engine.IdentityService, s streams) error {
	c := h.config
	texts, err := h.texts()
	if err != nil {
		return err
	}
	server := httpd.New(httpd.Options{Log: h.log})
	defer server.Close(stopTime * 3 / 5)
	o := wire.Options{Log: h.log, Done: server.Done(), AdminContact: c.PublicURL}
	if c.RateLimits {
		o.Limits = wire.NewLimits(nil)
	}
	mux := wire.New(o)
	if err := mux.Add(identityAPI(c, service, h.mail, texts)); err != nil {
		return err
	}
	addr, err := server.Listen(c.ClientListen, nil, mux.Serve)
	if err != nil {
		return listenError(c, "client_listen", c.ClientListen, err)
	}
	fmt.Fprintf(s.out, "The identity service %s is at http://%s, its data in %s\n", c.ServerName, reachable(addr), folder(c))
	super := newSupervisor(s.env)
	super.say("READY=1\nSTATUS=running")
	beat := super.beat()
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			super.say("WATCHDOG=1")
		case <-ctx.Done():
			super.say("STOPPING=1")
			return nil
		}
	}
}

// texts makes the way to the owner's gateway for text messages; nil where there
// is none.
func (h *hub) texts() (*sms.Sender, error) {
	if h.config.SMSWebhook == "" {
		return nil, nil
	}
	return sms.New(h.config.SMSWebhook, h.gateway.PostJSON, nil)
}
