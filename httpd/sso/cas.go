package sso

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"net/url"
	"strings"
)

// CAS is a provider that speaks the Central Authentication Service's protocol,
// version 2 or 3.
type CAS struct {
	server string
	ask    Ask
}

// NewCAS checks the server's address. It asks nobody.
func NewCAS(server string, ask Ask) (*CAS, error) {
	if err := checkServer(server); err != nil {
		return nil, err
	}
	return &CAS{strings.TrimSuffix(server, "/"), ask}, nil
}

// service is where the browser comes back to; it has to be the same twice.
func service(l Login) string { return l.Callback + "?" + url.Values{"state": {l.State}}.Encode() }

// Begin gives the address to send the browser to.
func (p *CAS) Begin(_ context.Context, l Login) (string, error) {
	return p.server + "/login?" + url.Values{"service": {service(l)}}.Encode(), nil
}

// Finish finds out who has come back with a ticket.
func (p *CAS) Finish(ctx context.Context, l Login, query func(name string) string) (who Person, err error) {
	ticket := query("ticket")
	if ticket == "" {
		return who, fmt.Errorf("%w: no ticket", errAnswer)
	}
	status, body, err := p.ask(ctx, &Question{Method: "GET", URL: p.server + "/serviceValidate?" + url.Values{"service": {service(l)}, "ticket": {ticket}}.Encode()})
	if err != nil {
		return who, err
	}
	if status != 200 {
		return who, fmt.Errorf("%w: status %d", errAnswer, status)
	}
	var r struct {
		Success *struct {
			User string `xml:"user"`
			Name string `xml:"attributes>displayName"`
		} `xml:"authenticationSuccess"`
		Failure *struct {
			Code string `xml:"code,attr"`
		} `xml:"authenticationFailure"`
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&r); err != nil {
		return who, fmt.Errorf("%w: %v", errAnswer, err)
	}
	switch {
	case r.Failure != nil:
		return who, fmt.Errorf("%w: %.100q", errAnswer, r.Failure.Code)
	case r.Success == nil || r.Success.User == "" || len(r.Success.User) > 255:
		return who, fmt.Errorf("%w: it names nobody", errAnswer)
	}
	return Person{Subject: r.Success.User, Username: r.Success.User, Name: r.Success.Name}, nil
}
