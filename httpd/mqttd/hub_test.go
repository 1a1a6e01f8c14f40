package mqttd

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/mqtt"
)

// hub is a broker with its listener, for tests.
type hub struct {
	t      *testing.T
	engine *engine.Engine
	broker *mqtt.Broker
	server *Server
	addr   string
	skew   *atomic.Int64 // how far the broker's clock is ahead, nanoseconds
}

// let lets in everybody under the name that they give.
func let(_ context.Context, c *mqtt.Connect) (mqtt.Identity, error) {
	if string(c.Password) == "wrong" {
		return mqtt.Identity{}, mqtt.Refuse(mqtt.BadCredentials, "no such thing")
	}
	return mqtt.Identity{Name: c.Username}, nil
}

func start(t *testing.T, bo mqtt.Options, so Options) *hub {
	t.Helper()
	skew := new(atomic.Int64)
	now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	e, err := engine.Open(engine.Options{Dir: t.TempDir(), Server: "hub.test", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if bo.Auth == nil {
		bo.Auth = let
	}
	bo.Log = t.Logf
	b, err := e.OpenBroker(bo)
	if err != nil {
		t.Fatal(err)
	}
	so.Broker = b
	h := &hub{t: t, engine: e, broker: b, server: New(so), skew: skew}
	addr, err := h.server.Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.addr = addr.String()
	t.Cleanup(func() {
		h.server.Close(time.Second)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *hub) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}
