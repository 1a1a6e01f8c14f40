package main

import (
	"context"
	"net/netip"
	"net/url"
	"runtime/debug"

	"hearth/engine"
	"hearth/engine/appservice"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/push"
	"hearth/httpd/clientapi"
	"hearth/httpd/mail"
	"hearth/httpd/peer"
	"hearth/httpd/sso"
)

// clientOptions is the client-server API as the settings want it.
func (h *hub) clientOptions() (o clientapi.Options, err error) {
	c := h.config
	o = clientapi.Options{
		Engine: h.engine, Registration: registrationMode(c.Registration), Guests: c.Guests, PublicURL: c.PublicURL, NeedEmail: c.RegistrationEmail,
	}
	if on, _, _ := c.Federates(); on { // judged before the hub started
		o.ServerAt = mxid.Server(c.FederationAddress)
	}
	if o.Secret, err = c.ReadSecret(); err != nil {
		return o, err
	}
	if o.TURN, err = c.TURN(); err != nil {
		return o, err
	}
	if c.TermsURL != "" {
		o.Terms = []clientapi.Policy{{ID: "terms_of_service", Version: "1", Language: "en", Name: "Terms of " + string(h.engine.Server), URL: c.TermsURL}}
	}
	o.Mail = h.mail
	if c.Identity {
		o.IdentityAt = c.PublicURL
	}
	if h.sms, err = h.texts(); err != nil {
		return o, err
	}
	if h.sms != nil {
		o.Text = h.sms.Send
	}
	o.About = h.about()
	o.Failed = func(what string, err error) { h.log.Warn(what+" failed", "err", err) }
	o.Providers, err = h.providers()
	return o, err
}

// sender makes the way to the owner's mail server; nil where there is none.
func (h *hub) sender() (func(to, subject, text string) error, error) {
	server, err := h.config.Mail()
	if err != nil || server.Server == "" {
		return nil, err
	}
	sender, err := mail.New(server)
	if err != nil {
		return nil, err
	}
	return func(to, subject, text string) error {
		err := sender.Send(to, subject, text)
		if err != nil {
			h.log.Warn("an e-mail could not be sent", "err", err)
		}
		return err
	}, nil
}

// ways are the ways out: to push gateways and mailboxes, and to other servers.
type ways struct {
	push       push.Options
	federation federation.Options
	services   appservice.Options
	identity   engine.IdentityWays
	notaries   []mxid.Server
	witnesses  bool
}

// waysOut makes them.
func (h *hub) waysOut() (w ways, err error) {
	allow, err := peer.ParseNetworks(h.config.AllowNetworks)
	if err != nil {
		return w, err
	}
	on, only, err := h.config.Federates()
	if err != nil {
		return w, err
	}
	if on {
		h.servers = peer.NewServers(peer.ServersOptions{Allow: allow, Agent: "Hearth"})
		w.federation = federation.Options{Peer: h.servers, Allow: only, Catchup: h.config.FederationCatchup}
	}
	if w.notaries, w.witnesses, err = h.config.Notaries(); err != nil {
		return w, err
	}
	w.services = h.serviceOptions()
	w.identity = engine.IdentityWays{Ask: h.askIdentity, Get: h.askLink}
	w.push, err = h.notices(allow)
	return w, err
}

// serviceOptions is where the application services are registered, and the way
// to them. Their addresses are the owner's choice, so none is refused.
func (h *hub) serviceOptions() appservice.Options {
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	client := peer.New(peer.Options{Allow: everywhere, Agent: "Hearth"})
	return appservice.Options{
		Load: func(server mxid.Server) (*appservice.Set, error) {
			return appservice.Load(h.config.AppServices, server)
		},
		Ask: func(ctx context.Context, r *appservice.Request) (int, []byte, error) {
			answer, err := client.Do(ctx, &peer.Request{
				Method: r.Method, URL: r.URL, Body: r.Body, Header: map[string][]string{"Authorization": {"Bearer " + r.Token}},
			})
			if err != nil {
				return 0, nil, err
			}
			return answer.Status, answer.Body, nil
		},
	}
}

// reload reads again what may change while the hub runs.
func (h *hub) reload() {
	set, err := appservice.Load(h.config.AppServices, h.engine.Server)
	if err == nil {
		err = h.engine.SetServices(set)
	}
	if err != nil {
		h.log.Error("the application services stay as they were", "err", err)
		return
	}
	h.log.Info("application services read again", "count", len(set.All()))
}

// notices makes the ways to push gateways and mailboxes.
func (h *hub) notices(allow []netip.Prefix) (o push.Options, err error) {
	h.peers = peer.New(peer.Options{Allow: allow, Agent: "Hearth"})
	h.gateway = peer.New(peer.Options{Allow: everywhere(), Agent: "Hearth"})
	o.Post = h.notify
	if h.mail, err = h.sender(); err != nil || h.mail == nil {
		return o, err
	}
	o.Mail = func(ctx context.Context, to, subject, text string) error {
		done := make(chan error, 1) // the conversation ends by its own clock; the hub does not wait for it to stop
		go func() { done <- h.mail(to, subject, text) }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return o, nil
}

// providers are where people log in besides.
func (h *hub) providers() (list []clientapi.Provider, err error) {
	c := h.config
	if c.OIDCIssuer == "" && c.CASServer == "" {
		return nil, nil
	}
	// The owner named them, so they may stand in the owner's own network.
	out := peer.New(peer.Options{Allow: everywhere(), Agent: "Hearth"})
	ask := func(ctx context.Context, q *sso.Question) (int, []byte, error) {
		r := peer.Request{Method: q.Method, URL: q.URL, Type: q.Type, Header: map[string][]string{}, Body: q.Body}
		for k, v := range q.Header {
			r.Header.Set(k, v)
		}
		a, err := out.Do(ctx, &r)
		if err != nil {
			return 0, nil, err
		}
		return a.Status, a.Body, nil
	}
	if c.OIDCIssuer != "" {
		p, err := c.OIDC(ask)
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(c.OIDCIssuer)
		if err != nil {
			return nil, err
		}
		list = append(list, provider("oidc", u.Hostname(), p.Begin, p.Finish))
	}
	if c.CASServer != "" {
		p, err := sso.NewCAS(c.CASServer, ask)
		if err != nil {
			return nil, err
		}
		one := provider("cas", "CAS", p.Begin, p.Finish)
		one.CAS = true
		list = append(list, one)
	}
	return list, nil
}

// everywhere is for what the owner alone has a say in.
func everywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// provider is a protocol of package sso as the client-server API takes it.
func provider(id, name string, begin func(context.Context, sso.Login) (string, error),
	finish func(context.Context, sso.Login, func(string) string) (sso.Person, error)) clientapi.Provider {
	return clientapi.Provider{
		ID: id, Name: name,
		Begin: func(ctx context.Context, l clientapi.SignOn) (string, error) { return begin(ctx, sso.Login(l)) },
		Finish: func(ctx context.Context, l clientapi.SignOn, query func(string) string) (clientapi.Identity, error) {
			p, err := finish(ctx, sso.Login(l), query)
			return clientapi.Identity(p), err
		},
	}
}

// version is what the program was built from.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		return b.Main.Version
	}
	return "unknown"
}
