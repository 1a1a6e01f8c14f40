package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"hearth/cmd/internal/mqttclient"
	"hearth/engine/mqtt"
)

// By MQTT pub and sub speak with topics in place of rooms. Only where they reach
// and who they are differs; what is sent, printed and returned stays what it is.

const (
	usualQoS    = 1
	keptSession = 90 * 24 * 3600 // seconds, with --device
	oneRun      = 3600           // seconds that a broken connection may take to come back
)

func (r *reach) topicFlags(fs *flag.FlagSet) {
	fs.StringVar(&r.mqtt, "mqtt", "", "")
	fs.StringVar(&r.cert, "cert", "", "")
	fs.IntVar(&r.qos, "qos", usualQoS, "")
	fs.Func("topic", "", func(text string) error {
		r.topics = append(r.topics, text)
		return nil
	})
}

// checkTopics is what parse checks with --mqtt.
func (r *reach) checkTopics() error {
	switch {
	case r.room != "" || r.create || r.server != "":
		return usage("--mqtt takes topics; --room, --create and --server go without it")
	case r.token != "" || r.tokenFile != "":
		return usage("by MQTT an access token is given as the password of the user with its whole id")
	case r.qos < 0 || r.qos > 2:
		return usage("--qos must be 0, 1 or 2")
	}
	if err := r.nameInAddress(); err != nil {
		return err
	}
	if r.cert == "" && first(r.user, r.s.env("HEARTH_USER")) == "" {
		return usage("who? give the address that hearth thing add prints, --user and --password-file, or --cert")
	}
	if r.cert != "" {
		return nil // it says who this is; --user has to agree where it is given
	}
	return r.login()
}

// nameInAddress takes name and secret out of an address as hearth thing add prints
// it: mqtt://NAME:SECRET@HOST:PORT.
func (r *reach) nameInAddress() error {
	scheme, rest, _ := strings.Cut(r.mqtt, "://")
	if !strings.Contains(rest, "@") {
		return nil
	}
	u, err := url.Parse(r.mqtt)
	if err != nil || u.Host == "" || u.User == nil {
		return usage("--mqtt: that is no address; it looks like mqtt://NAME:SECRET@HOST:PORT") // it is not printed: it holds a secret
	}
	if r.user != "" && r.user != u.User.Username() {
		return usage("--mqtt names %s and --user %s", u.User.Username(), r.user)
	}
	secret, _ := u.User.Password()
	if secret != "" && (r.password != "" || r.passwordFile != "") {
		return usage("--mqtt has a password, and another is given too")
	}
	r.user, r.password, r.mqtt = u.User.Username(), first(r.password, secret), scheme+"://"+u.Host
	return nil
}

// session makes the client of this run.
func (r *reach) session() (*mqttclient.Client, error) {
	o := mqttclient.Options{User: r.user, Password: r.password, ClientID: r.device, Expiry: keptSession, Notice: r.remark}
	if r.device == "" {
		o.ClientID, o.Expiry, o.Clean = "hearth-"+r.name+"-"+rand.Text(), oneRun, true
	}
	addr, secure := r.mqtt, r.cert != ""
	if scheme, rest, ok := strings.Cut(r.mqtt, "://"); ok {
		addr = strings.TrimSuffix(rest, "/")
		switch scheme {
		case "mqtts", "tls", "ssl":
			secure = true
		case "mqtt", "tcp":
			if secure {
				return nil, usage("--cert needs TLS: mqtts://HOST:PORT")
			}
		default:
			return nil, usage("--mqtt %s: it must be HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT", r.mqtt)
		}
	}
	o.Addr = withPort(addr, secure)
	if secure {
		var err error
		if o.TLS, err = r.encryption(o.Addr); err != nil {
			return nil, &failure{exitLocal, err}
		}
	}
	return mqttclient.New(o), nil
}

// withPort gives an address the usual port where it has none.
func withPort(addr string, secure bool) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	if secure {
		return net.JoinHostPort(strings.Trim(addr, "[]"), "8883")
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), "1883")
}

func (r *reach) encryption(addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if r.ca != "" {
		if conf.RootCAs, err = rootsOf(r.ca); err != nil {
			return nil, err
		}
	}
	if r.cert == "" {
		return conf, nil
	}
	text, err := os.ReadFile(r.cert)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.cert, err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// rootsOf reads the certificates that are to be trusted.
func rootsOf(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return roots, nil
}

// oneTopic is the topic to publish to.
func (r *reach) oneTopic() error {
	switch {
	case len(r.topics) != 1:
		return usage("which topic? give --topic once")
	case !mqtt.ValidTopic(r.topics[0]):
		return usage("topic %q: it must not be empty and have no wildcards", r.topics[0])
	}
	return nil
}

// someFilters are the filters to subscribe to.
func (r *reach) someFilters() error {
	if len(r.topics) == 0 {
		return usage("which topics? give --topic with a filter")
	}
	for _, f := range r.topics {
		if !mqtt.ValidFilter(f) {
			return usage("topic filter %q: + stands for one level and # for all that follow, each alone in its level", f)
		}
	}
	return nil
}

// over says whether following ended as it was meant to.
func over(err error) bool { return errors.Is(err, errTimeout) || errors.Is(err, errInterrupted) }
