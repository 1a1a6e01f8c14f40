package main

import (
	"runtime/debug"

	"hearth/httpd/clientapi"
	"hearth/httpd/mail"
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
	server, err := c.Mail()
	if err != nil || server.Server == "" {
		return o, err
	}
	sender, err := mail.New(server)
	if err != nil {
		return o, err
	}
	o.Mail = func(to, subject, text string) error {
		err := sender.Send(to, subject, text)
		if err != nil {
			h.log.Warn("an e-mail could not be sent", "err", err)
		}
		return err
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
