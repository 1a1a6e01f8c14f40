package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"hearth/httpd/clientapi"
	"hearth/httpd/mail"
	"hearth/httpd/sms"
	"hearth/httpd/sso"
)

// Mail reads what the hub needs to send e-mail; the server is empty where it is
// to send none.
func (c *Config) Mail() (o mail.Options, err error) {
	if c.MailServer == "" {
		return o, nil
	}
	u, err := url.Parse(c.MailServer)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return o, fmt.Errorf("%q is not of the form smtp://name@mail.example:587", c.MailServer)
	}
	port := "587"
	switch u.Scheme {
	case "smtp":
		o.Security = mail.StartTLS
	case "smtps":
		o.Security, port = mail.TLS, "465"
	case "plain":
		o.Security, port = mail.Clear, "25"
	default:
		return o, fmt.Errorf("%q begins with none of smtp://, smtps:// and plain://", c.MailServer)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	o.Server, o.From = net.JoinHostPort(u.Hostname(), port), c.MailFrom
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return o, fmt.Errorf("the password of the mail server belongs into mail_password_file")
		}
		o.User = u.User.Username()
	}
	password, err := readSecret(c.MailPassword)
	if err != nil {
		return o, err
	}
	o.Password = string(password)
	_, err = mail.New(o)
	return o, err
}

// TURN reads what clients are told of the servers that relay calls.
func (c *Config) TURN() (t clientapi.TURN, err error) {
	for _, uri := range c.TURNServers {
		if !strings.HasPrefix(uri, "turn:") && !strings.HasPrefix(uri, "turns:") && !strings.HasPrefix(uri, "stun:") {
			return t, fmt.Errorf("%q is not of the form turn:turn.example:3478?transport=udp", uri)
		}
	}
	secret, err := readSecret(c.TURNSecret)
	return clientapi.TURN{URIs: c.TURNServers, Secret: string(secret)}, err
}

// OIDC makes the identity provider of the settings; nil where there is none.
func (c *Config) OIDC(ask sso.Ask) (*sso.OIDC, error) {
	if c.OIDCIssuer == "" {
		return nil, nil
	}
	secret, err := readSecret(c.OIDCSecret)
	if err != nil {
		return nil, err
	}
	return sso.NewOIDC(sso.OIDCOptions{Issuer: c.OIDCIssuer, Client: c.OIDCClient, Secret: string(secret), Ask: ask})
}

// checkMail judges mail, calls, terms and identity providers.
func (c *Config) checkMail(bad say) {
	if _, err := c.Mail(); err != nil {
		bad("mail_server", "%v", err)
	}
	if _, err := c.TURN(); err != nil {
		bad("turn_uris", "%v", err)
	}
	if c.SMSWebhook != "" {
		if _, err := sms.New(c.SMSWebhook, nil, nil); err != nil {
			bad("sms_webhook", "%v", err)
		}
	}
	switch {
	case c.SMSWebhook != "" && c.PublicURL == "":
		bad("sms_webhook", "clients have to be told where codes are to be given: it needs public_url")
	case c.MailServer != "" && c.PublicURL == "":
		bad("mail_server", "the links in e-mails need public_url")
	case c.MailServer == "" && c.RegistrationEmail:
		bad("registration_needs_email", "without mail_server nobody could prove an address")
	case len(c.TURNServers) == 0 && c.TURNSecret != "":
		bad("turn_secret_file", "no server shares the secret: turn_uris is empty")
	}
	if _, err := c.OIDC(nil); err != nil {
		bad("oidc_issuer", "%v", err)
	}
	if c.CASServer != "" {
		if _, err := sso.NewCAS(c.CASServer, nil); err != nil {
			bad("cas_server", "%v", err)
		}
	}
	if (c.OIDCIssuer != "" || c.CASServer != "") && c.PublicURL == "" {
		bad("public_url", "it is needed for browsers to come back from the identity provider")
	}
	if c.TermsURL != "" {
		if u, err := url.Parse(c.TermsURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			bad("terms_url", "%q is not a URL", c.TermsURL)
		}
	}
}
