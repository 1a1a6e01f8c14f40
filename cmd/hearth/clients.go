package main

import (
	"context"
	"runtime/debug"

	"hearth/engine/push"
	"hearth/httpd/clientapi"
	"hearth/httpd/mail"
	"hearth/httpd/peer"
)

// clientOptions is the client-server API as the settings want it.
func (h *hub) clientOptions() (o clientapi.Options, err error) {
	c := h.config
	o = clientapi.Options{
		Engine: h.engine, Registration: registrationMode(c.Registration), Guests: c.Guests, PublicURL: c.PublicURL, NeedEmail: c.RegistrationEmail,
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
	return o, nil
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

// ways makes the ways out to push gateways and mailboxes.
func (h *hub) ways() (o push.Options, err error) {
	allow, err := peer.ParseNetworks(h.config.AllowNetworks)
	if err != nil {
		return o, err
	}
	h.peers = peer.New(peer.Options{Allow: allow, Agent: "Hearth"})
	o.Post = h.peers.PostJSON
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

// version is what the program was built from.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		return b.Main.Version
	}
	return "unknown"
}
