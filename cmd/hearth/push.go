package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/httpd/peer"
	"hearth/httpd/pushapi"
	"hearth/httpd/wire"
)

// pushLife is how long a notification waits for a thing or an app that is away.
const pushLife = 24 * time.Hour

// pushGateway makes the hub a push gateway, where the settings want it to be one.
func (h *hub) pushGateway() ([]wire.Route, error) {
	c := h.config
	if !c.PushGateway || h.engine.ReadOnly() { // without a disk it has no keys
		return nil, nil
	}
	secret, err := h.engine.Secret("push")
	if err != nil {
		return nil, err
	}
	apps, err := c.PushAppList()
	if err != nil {
		return nil, err
	}
	o := pushapi.Options{
		Ask: asking(h.peers), Alive: h.hasDevice, Server: h.engine.Server, PublicURL: c.PublicURL, Secret: secret, Apps: apps,
		Log: func(format string, args ...any) { h.log.Warn(fmt.Sprintf(format, args...)) },
	}
	if broker := h.broker; broker != nil {
		o.Publish = func(ctx context.Context, topic string, payload []byte) error {
			return broker.Publish(ctx, &mqtt.Message{Topic: topic, Payload: payload, QoS: 1, Expires: broker.Now().Add(pushLife)})
		}
	}
	gate, err := pushapi.New(o)
	if err != nil {
		return nil, err
	}
	h.gate.Store(gate)
	return gate.Routes(), nil
}

// asking is the way to push services, whose addresses users choose.
func asking(c *peer.Client) func(context.Context, *pushapi.Request) (*pushapi.Answer, error) {
	return func(ctx context.Context, r *pushapi.Request) (*pushapi.Answer, error) {
		q := peer.Request{Method: r.Method, URL: r.URL, Body: r.Body, Header: map[string][]string{}, MaxAnswer: 64 << 10, Time: 10 * time.Second}
		for k, v := range r.Header {
			if k == "Content-Type" {
				q.Type = v
				continue
			}
			q.Header[k] = []string{v}
		}
		a, err := c.Do(ctx, &q)
		if err != nil {
			return nil, err
		}
		return &pushapi.Answer{Status: a.Status, Retry: a.Header.Get("Retry-After"), Body: a.Body}, nil
	}
}

// hasDevice says whether a user of this hub has a device.
func (h *hub) hasDevice(id mxid.UserID, device string) (bool, error) {
	user, err := h.engine.Accounts.Find(id)
	if err == nil && user != 0 {
		_, err = h.engine.Accounts.Device(user, device)
	}
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return user != 0 && err == nil, err
}

// notify hands a notification of one of our users to their push gateway. Where
// that is this hub it goes there directly.
func (h *hub) notify(ctx context.Context, url string, body []byte) (status int, answer []byte, err error) {
	if !h.config.PushGateway || url != strings.TrimSuffix(h.config.PublicURL, "/")+pushapi.NotifyPath {
		return h.peers.PostJSON(ctx, url, body)
	}
	gate := h.gate.Load()
	if gate == nil {
		return 0, nil, fault.E(fault.Busy, "hearth.notify", "the hub is starting")
	}
	if answer, err = gate.Notify(ctx, body); err != nil {
		return 0, nil, err
	}
	return 200, answer, nil
}
