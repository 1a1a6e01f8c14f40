package pushapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 2048 && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// unified hands the notification to the push server that the app has chosen,
// whose address is the pushkey. Anybody may ask the gateway for that, so the
// push server is asked first whether it is one: nobody's web server is sent
// requests that it did not want. Spec: UnifiedPush, push gateways.
func (g *Gateway) unified(ctx context.Context, n *notification, d *device) error {
	if n.idle(d) {
		return nil
	}
	if err := g.takesPushes(ctx, d.Key); err != nil {
		return err
	}
	header := map[string]string{"Content-Type": "application/json", "TTL": strconv.Itoa(int(n.life() / time.Second)), "Urgency": "high"}
	if !n.urgent() {
		header["Urgency"] = "low"
	}
	a, err := g.o.Ask(ctx, &Request{Method: "POST", URL: d.Key, Header: header, Body: n.whole(d)})
	if err != nil {
		return err
	}
	return judge(a, g.o.Now())
}

// maxUnified is the longest message that every UnifiedPush server takes.
const maxUnified = 4096

// whole is the notification for one device as a homeserver sent it, which is what
// apps expect; without what makes it too long.
func (n *notification) whole(d *device) []byte {
	limit := maxUnified - len(`{"notification":}`)
	one := *d
	one.Data.Default = nil
	inner := n.payload(&one, limit)
	counts := object{'{'}
	counts.number("unread", n.Counts.Unread)
	counts.number("missed_calls", n.Counts.Calls)
	if more := counts.end(); len(more) > 2 && len(inner)+len(more)+12 <= limit {
		o := object(inner[:len(inner)-1])
		o.raw("counts", more)
		inner = o.end()
	}
	return append(append([]byte(`{"notification":`), inner...), '}')
}

// takesPushes asks a host once whether it is a push server.
func (g *Gateway) takesPushes(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return errRejected
	}
	g.mu.Lock()
	known := g.servers[u.Host]
	g.mu.Unlock()
	if known {
		return nil
	}
	a, err := g.o.Ask(ctx, &Request{Method: "GET", URL: endpoint})
	switch {
	case fault.Is(err, fault.Forbidden):
		return errRejected // an address that must not be asked
	case err != nil:
		return err
	case a.Status == 429, a.Status >= 500:
		return judge(a, g.o.Now())
	}
	version, ok := cjson.LookupPath(a.Body, "unifiedpush", "version")
	if a.Status/100 != 2 || cjson.Check(a.Body) != nil || !ok || cjson.KindOf(version) != cjson.NumberKind {
		return errRejected
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.servers) >= maxServers {
		clear(g.servers)
	}
	g.servers[u.Host] = true
	return nil
}

// The hub is a push server too: what comes to an endpoint of its own it publishes
// on its broker, under a topic that one user may read. So apps and things on the
// local network are told without anybody's cloud, by whatever speaks MQTT.
//
// An endpoint belongs to a device and ends with it. It names both and bears the
// hub's seal, so that nothing has to be kept for it.

const (
	endpointPath = "/_hearth/push/"
	// TopicPrefix begins the topics that endpoints publish to: a local part and a
	// device id follow. Wildcards do not find them by accident.
	TopicPrefix = "$push/"
	sealSize    = 16
)

func (g *Gateway) endpointRoutes() []wire.Route {
	if g.o.Publish == nil || g.o.PublicURL == "" {
		return nil
	}
	return []wire.Route{
		{Method: "POST", Pattern: "/_matrix/client/unstable/org.hearth.push/endpoint", Handle: g.endpoint, Flags: wire.Auth | wire.EmptyBody, Class: wire.Read},
		{Method: "GET", Pattern: endpointPath + "{token}", Handle: g.isServer},
		{Method: "POST", Pattern: endpointPath + "{token}", Handle: g.pushed, Class: wire.Send, Body: maxUnified},
	}
}

// endpoint gives a device the address at which it is told, and the topic on
// which it hears that.
func (g *Gateway) endpoint(r *wire.Req) error {
	user, device := r.Session.UserID, r.Session.Device
	if device == "" || strings.ContainsAny(device, "/+#\x00") || strings.ContainsAny(user.Localpart(), "/+#\x00") {
		return fault.E(fault.Forbidden, "pushapi.endpoint", "the names of the user and the device are no part of a topic")
	}
	dst := cjson.AppendString(append(r.Out(), `{"endpoint":`...), g.base()+g.sealed(user, device))
	dst = cjson.AppendString(append(dst, `,"topic":`...), topicOf(user, device))
	dst = cjson.AppendString(append(dst, `,"gateway":`...), strings.TrimSuffix(g.o.PublicURL, "/")+NotifyPath)
	return r.OK(append(dst, '}'))
}

// base is what begins the addresses of endpoints.
func (g *Gateway) base() string { return strings.TrimSuffix(g.o.PublicURL, "/") + endpointPath }

func topicOf(user mxid.UserID, device string) string {
	return TopicPrefix + user.Localpart() + "/" + device
}

func (g *Gateway) mac(text string) []byte {
	h := hmac.New(sha256.New, g.sealing)
	h.Write([]byte(text)) // never fails
	return h.Sum(nil)[:sealSize]
}

func (g *Gateway) sealed(user mxid.UserID, device string) string {
	text := user.Localpart() + "\x00" + device
	return base64.RawURLEncoding.EncodeToString(append(g.mac(text), text...))
}

// open reads an endpoint's token. Error: NotFound, also for a device that is gone.
func (g *Gateway) open(token string) (topic string, err error) {
	gone := fault.E(fault.NotFound, "pushapi.open", "there is no such endpoint")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sealSize || !hmac.Equal(raw[:sealSize], g.mac(string(raw[sealSize:]))) {
		return "", gone
	}
	name, device, _ := strings.Cut(string(raw[sealSize:]), "\x00")
	user := mxid.UserID("@" + name + ":" + string(g.o.Server))
	alive, err := g.o.Alive(user, device)
	if err == nil && !alive {
		err = gone
	}
	return topicOf(user, device), err
}

// isServer says that endpoints take pushes.
// Spec: UnifiedPush, push servers.
func (g *Gateway) isServer(r *wire.Req) error {
	return r.OK(append(r.Out(), `{"unifiedpush":{"version":1}}`...))
}

// pushed takes a message for a device, of whatever form.
// Spec: UnifiedPush, push servers; RFC 8030, section 5.
func (g *Gateway) pushed(r *wire.Req) error {
	topic, err := g.open(r.Path("token"))
	if err != nil {
		return err
	}
	body, err := r.Body(maxUnified)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), notifyTime)
	defer cancel()
	if err := g.o.Publish(ctx, topic, append([]byte(nil), body...)); err != nil {
		return err
	}
	return r.Reply(201, append(r.Out(), '{', '}'))
}

// own says whether a pushkey is an endpoint of this hub.
func (g *Gateway) own(key string) bool {
	return g.o.Publish != nil && g.o.PublicURL != "" && strings.HasPrefix(key, g.base())
}

// toBroker tells a device by an endpoint of this hub, without HTTP.
func (g *Gateway) toBroker(ctx context.Context, n *notification, d *device) error {
	if n.idle(d) {
		return nil
	}
	topic, err := g.open(strings.TrimPrefix(d.Key, g.base()))
	if fault.Is(err, fault.NotFound) {
		return errRejected
	}
	if err != nil {
		return err
	}
	return g.o.Publish(ctx, topic, n.whole(d))
}
