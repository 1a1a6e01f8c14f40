package client

import (
	"context"
	"net/http"
)

// Login is a user and a password, and the device that they open.
type Login struct {
	User     string // localpart or whole user id
	Password string
	Device   string // device id to use again; empty makes a new one
	Name     string // what a new device is called in the user's list
}

type identifier struct {
	Type string `json:"type"`
	User string `json:"user"`
}

type loginBody struct {
	Type       string     `json:"type"`
	Identifier identifier `json:"identifier"`
	Password   string     `json:"password"`
	Device     string     `json:"device_id,omitempty"`
	Name       string     `json:"initial_device_display_name,omitempty"`
}

// Login opens a session by password.
// Spec: client-server API, POST /login.
func (c *Client) Login(ctx context.Context, l Login) error {
	var answer struct {
		Token string `json:"access_token"`
	}
	err := c.persist(ctx, call{
		method: http.MethodPost,
		path:   "/login",
		body: loginBody{
			Type:       "m.login.password",
			Identifier: identifier{Type: "m.id.user", User: l.User},
			Password:   l.Password,
			Device:     l.Device,
			Name:       l.Name,
		},
		through: true,
	}, &answer)
	if err != nil {
		return err
	}
	c.token = answer.Token
	return nil
}

// Logout ends the session, so that a device made for one run does not stay in the user's list. It tries once.
func (c *Client) Logout(ctx context.Context) error {
	return c.once(ctx, call{method: http.MethodPost, path: "/logout", body: struct{}{}}, nil)
}
