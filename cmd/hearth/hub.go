package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/budget"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/media"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/httpd"
	"hearth/httpd/adminapi"
	"hearth/httpd/clientapi"
	"hearth/httpd/fedapi"
	"hearth/httpd/hubapi"
	"hearth/httpd/mdns"
	"hearth/httpd/mediaapi"
	"hearth/httpd/mqttd"
	"hearth/httpd/peer"
	"hearth/httpd/pushapi"
	"hearth/httpd/sms"
	"hearth/httpd/wire"
)

// trialName is what a hub is called whose owner gave it no name.
const trialName = "localhost"

// hub is a running hub.
type hub struct {
	config   *config.Config
	log      *slog.Logger
	engine   *engine.Engine
	server   *httpd.Server
	broker   *mqtt.Broker                         // nil: the hub serves no things
	mux      atomic.Pointer[wire.Mux]             // all that is served by HTTP; nil until all of it is there
	sms      *sms.Sender                          // nil: the hub sends no text messages
	gate     atomic.Pointer[pushapi.Gateway]      // nil until it is open, or where the hub is none
	things   *mqttd.Server                        // nil: none are served
	thingsAt atomic.Pointer[[]string]             // where, as in the settings with true ports; nil: not open
	servers  *peer.Servers                        // the way to other servers; nil: there is none
	peers    *peer.Client                         // all that the hub asks others
	gateway  *peer.Client                         // what the owner named in the settings, wherever that is
	mail     func(to, subject, text string) error // nil: the hub sends none
	control  *control
	acme     *peer.ACME // nil: the certificate comes from elsewhere
	doors    []door
	finds    []mdns.Service  // what is announced on the local network
	mdns     *mdns.Responder // nil: nothing is
	fresh    bool            // the data folder was made by this start
	asked    chan struct{}
	began    time.Time
	kept     *logTail // the end of log
	wearing  *wearing
	serving  atomic.Bool // all of it is there

	context context.Context // of what runs beside the listeners; end cancels it
	end     context.CancelFunc
	running sync.WaitGroup
}

// door is a listener as the owner sees it.
type door struct{ what, url, note string }

// startHub opens the data folder and the listeners.
func startHub(c *config.Config, log *slog.Logger) (h *hub, err error) {
	shares, err := budget.Plan(int64(c.MemoryLimit), budget.RAM())
	if err != nil {
		return nil, err
	}
	shares.Apply()
	h = &hub{config: c, asked: make(chan struct{}, 1), began: time.Now(), kept: &logTail{}}
	log = slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(h.kept, nil)))
	h.log = log
	h.context, h.end = context.WithCancel(context.Background())
	defer func() {
		if err == nil {
			return
		}
		if more := h.stop(); more != nil {
			err = errors.Join(err, more)
		}
	}()
	out, err := h.waysOut()
	if err != nil {
		return h, err
	}
	if h.engine, h.fresh, err = openEngine(c, shares, log, out); err != nil {
		return h, err
	}
	h.wearing = watchWear(c.DataDir)
	if h.control, err = listenControl(c.DataDir, admin{h.engine, h.whereThings}, h.support, log); err != nil && !h.engine.ReadOnly() {
		return h, fmt.Errorf("the socket for hearth user: %w", err)
	}
	if !h.engine.ReadOnly() {
		h.running.Go(func() { h.wearing.run(h.context, log) })
	}
	return h, h.open(shares)
}

// openEngine opens the data folder with the name it has, or makes it.
func openEngine(c *config.Config, shares budget.Shares, log *slog.Logger, out ways) (e *engine.Engine, fresh bool, err error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, false, err
	}
	o := engine.Options{
		Dir: c.DataDir, Server: mxid.Server(c.ServerName), RoomVersion: c.RoomVersion, Push: out.push, Things: engine.ThingOptions{Served: len(c.MQTTListen) > 0, Mappings: c.Mappings}, Federation: out.federation, Notaries: out.notaries, Witnesses: out.witnesses, AppServices: out.services, Identity: out.identity,
		CacheBytes: shares.BlockCache, MemTable: int(shares.MemTable), RecordBytes: int(shares.Records),
		Retention: time.Duration(c.Retention),
		Ballast:   true, KeepFormat: keepFormat(os.Getenv),
		Accounts: account.Options{PasswordMin: c.PasswordMinLength, Claim: os.Getenv(claimEnv)},
		Media: media.Options{
			MaxUpload: int64(c.MediaMaxUpload), Quota: int64(c.MediaQuota), UserQuota: int64(c.MediaUserQuota),
			LocalUnused: time.Duration(c.MediaKeepDays) * 24 * time.Hour, ImageBytes: int(shares.Picture),
		},
		Log: func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
		Fatal: func(format string, args ...any) {
			log.Error("the store cannot go on", "err", fmt.Sprintf(format, args...))
			os.Exit(exitLocal)
		},
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "store")); errors.Is(err, os.ErrNotExist) {
		fresh = true
	}
	e, err = engine.Open(o)
	if fault.Is(err, fault.Missing) && c.ServerName == "" {
		o.Server, fresh = trialName, true
		e, err = engine.Open(o)
	}
	if errors.Is(err, syscall.EAGAIN) || err != nil && strings.Contains(err.Error(), "lock held by") {
		return nil, false, fmt.Errorf("another hub runs on the data folder %s; a folder serves one at a time", folder(c))
	}
	return e, fresh, err
}

// registrationMode reads the word of the setting.
func registrationMode(word string) clientapi.Mode {
	switch word {
	case "open":
		return clientapi.Anyone
	case "token":
		return clientapi.WithToken
	}
	return clientapi.Closed
}

// mediaAPI is the content repository as the settings want it.
func (h *hub) mediaAPI() (*mediaapi.API, error) {
	o := mediaapi.Options{Media: h.engine.Media, Server: h.engine.Server}
	if !h.config.MediaOpen {
		o.Frozen = time.Unix(1, 0)
	}
	if h.servers != nil {
		allow, err := peer.ParseNetworks(h.config.AllowNetworks)
		if err != nil {
			return nil, err
		}
		follow := elsewhere(peer.New(peer.Options{Allow: allow}))
		o.Remote = func(ctx context.Context, origin mxid.Server, id string) error {
			return h.engine.FetchMedia(ctx, origin, id, follow)
		}
		o.RemoteThumb = func(ctx context.Context, origin mxid.Server, id string, want media.Want) error {
			return h.engine.FetchThumbnail(ctx, origin, id, want, follow)
		}
	}
	if h.config.URLPreviews {
		allow, err := peer.ParseNetworks(h.config.URLPreviewsAllow)
		if err != nil {
			return nil, err
		}
		o.Get = webPages(peer.New(peer.Options{Allow: allow, Agent: previewAgent}))
	}
	return mediaapi.New(o), nil
}

// elsewhere fetches files of other servers from where those say they lie.
func elsewhere(c *peer.Client) federation.Follow {
	return func(ctx context.Context, link string) (*federation.Stream, error) {
		resp, err := c.Open(ctx, &peer.Request{Method: "GET", URL: link, Redirects: 3})
		if err != nil {
			return nil, err
		}
		return &federation.Stream{Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Length: resp.ContentLength, Body: resp.Body}, nil
	}
}

// previewAgent is what the hub calls itself when it asks for a page. Many sites
// tell what a preview needs only to those who look like a browser.
const previewAgent = "Mozilla/5.0 (compatible; Hearth; link preview)"

// webPages asks for pages on behalf of users.
func webPages(c *peer.Client) mediaapi.Get {
	return func(ctx context.Context, link, accept string) (*mediaapi.Page, error) {
		resp, err := c.Open(ctx, &peer.Request{
			Method: "GET", URL: link, Redirects: 5,
			Header: map[string][]string{"Accept": {accept}, "Accept-Language": {"en, *;q=0.5"}},
		})
		if err != nil {
			return nil, err
		}
		return &mediaapi.Page{
			URL: resp.Request.URL, Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Size: resp.ContentLength, Body: resp.Body,
		}, nil
	}
}

// open builds the handlers and opens the listeners.
func (h *hub) open(shares budget.Shares) error {
	c := h.config
	h.server = httpd.New(httpd.Options{Conns: shares.Conns, Log: h.log})
	forClients, err := h.clientOptions()
	if err != nil {
		return err
	}
	api := clientapi.New(forClients)
	o := wire.Options{
		Authenticate: api.Authenticate, Log: h.log, Done: h.server.Done(), BodyMemory: shares.Bodies, AdminContact: c.PublicURL,
		Gate: wire.NewGate(2, 16, 2*time.Second),
	}
	if c.RateLimits {
		o.Limits = wire.NewLimits(nil)
	}
	var conf *tls.Config
	var note string
	if c.FederationListen != "" {
		if conf, note, err = h.certificate(); err != nil {
			return err
		}
	}
	mux := wire.New(o)
	mux.Attach(h.server.Resume)
	files, err := h.mediaAPI()
	if err != nil {
		return err
	}
	admin := adminapi.New(adminapi.Options{Engine: h.engine, Version: version(), Updates: h.updates(os.Getenv("HEARTH_UPDATE_SOCKET"))})
	if err := h.serveThings(shares); err != nil {
		return err
	}
	gate, err := h.pushGateway()
	if err != nil {
		return err
	}
	lookups, err := h.identityRoutes(h.sms)
	if err != nil {
		return err
	}
	tables := [][]wire.Route{lookups, api.Routes(), files.Routes(), admin.Routes(), hubapi.New(h.engine).Routes(), hubapi.Owner{Support: h.support, Metrics: h.metrics}.Routes(), h.proofs(), gate}
	if h.servers != nil {
		servers := fedapi.New(fedapi.Options{Engine: h.engine, Version: version()})
		tables = append(tables, servers.Routes(), files.Federated(servers.Signed))
	}
	for _, table := range tables {
		if err := mux.Add(table); err != nil {
			return err
		}
	}
	h.mux.Store(mux)
	serve := mux.Serve
	if h.things != nil {
		serve = h.things.WebSocket(mux.Serve)
	}
	if c.ClientListen != "" {
		addr, err := h.server.Listen(c.ClientListen, nil, serve)
		if err != nil {
			return listenError(c, "client_listen", c.ClientListen, err)
		}
		h.found(addr, mdns.Service{Type: "_matrix._tcp", Text: []string{"server_name=" + string(h.engine.Server)}})
		h.found(addr, mdns.Service{Type: "_http._tcp", Text: []string{"path=/"}})
		h.doors = append(h.doors, door{"clients", "http://" + reachable(addr), ""})
	}
	if c.FederationListen != "" {
		addr, err := h.server.Listen(c.FederationListen, conf, serve)
		if err != nil {
			return listenError(c, "federation_listen", c.FederationListen, err)
		}
		h.found(addr, mdns.Service{Type: "_matrix._tcp", Text: []string{"server_name=" + string(h.engine.Server), "tls=1"}})
		h.doors = append(h.doors, door{"in TLS", "https://" + reachable(addr), note})
	}
	if err := h.openMQTT(); err != nil {
		return err
	}
	if h.acme != nil {
		h.running.Go(func() { h.acme.Run(h.context) })
	}
	h.announce()
	h.serving.Store(true)
	return nil
}

// listenError says what to do about an address that cannot be had.
func listenError(c *config.Config, key, addr string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "; another program has it, perhaps another hub"
	case errors.Is(err, syscall.EACCES):
		hint = "; ports below 1024 need CAP_NET_BIND_SERVICE or root"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "; this machine has no such address"
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return fmt.Errorf("%s: no listening on %s: %w%s", c.Origin(key), addr, err, hint)
}

// reachable is an address as somebody on this machine would type it.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// greet prints where the hub is and what to try next.
func (h *hub) greet(w io.Writer) {
	fmt.Fprintf(w, "The hub %s is running, its data in %s\n\n", h.engine.Server, folder(h.config))
	for _, d := range h.doors {
		fmt.Fprintf(w, "  %-9s %s\n", d.what, d.url)
		if d.note != "" {
			fmt.Fprintf(w, "  %-9s (%s)\n", "", d.note)
		}
	}
	if h.fresh && h.config.ServerName == "" {
		fmt.Fprintf(w, "\nIt is called %s because server_name is not set. That is good for a trial and cannot change\n"+
			"later: for a hub that stays, set server_name and begin with an empty data folder.\n", h.engine.Server)
	}
	code, err := h.engine.Accounts.ClaimCode()
	if err != nil {
		h.log.Error("no claim code", "err", err)
	}
	if code != "" {
		fmt.Fprintf(w, "\nNobody owns this hub yet, or its owner asked for a new claim code. Who comes with it is an admin:\n\n    %s\n\n"+
			"Type it into the page at the address above, or into a Matrix client where it asks for a registration\ntoken; or make an account here:\n\n"+
			"    hearth user add%s alice --admin\n", code, h.elsewhere())
	}
	fmt.Fprintf(w, "\nCtrl-C stops it. hearth help lists what else there is.\n\n")
}

// elsewhere is the flag that another command needs to find this hub.
func (h *hub) elsewhere() string {
	if o := h.config.Origin("data_dir"); o == "data_dir" {
		return ""
	}
	return " --data-dir " + h.config.DataDir
}

// well says whether the hub does its work: whether a commit worked. The answer
// has to be there at the next beat; a store that hangs lets the watchdog bite.
func (h *hub) well() bool {
	select {
	case h.asked <- struct{}{}:
	default:
		return false // still waiting for the last answer
	}
	answer := make(chan error, 1)
	go func() {
		err := h.engine.Healthy()
		<-h.asked
		answer <- err
	}()
	select {
	case err := <-answer:
		return err == nil
	case <-time.After(time.Second):
		return false
	}
}

// stop ends what startHub began, also where that came half way.
func (h *hub) stop() error {
	h.end()
	if h.server != nil {
		go func() {
			<-h.server.Done() // from now on a connection closes behind its answer
			h.engine.Sync.Close()
		}()
		h.server.Close(stopTime * 3 / 5)
	}
	if h.things != nil {
		h.things.Close(stopTime / 5)
	}
	if h.mdns != nil {
		if err := h.mdns.Close(); err != nil {
			h.log.Warn("mdns ended badly", "err", err)
		}
	}
	if h.control != nil {
		h.control.close()
	}
	h.running.Wait()
	if h.servers != nil {
		defer h.servers.Close()
	}
	if h.engine != nil {
		return h.engine.Close()
	}
	return nil
}
