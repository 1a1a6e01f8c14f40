package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"hearth/cmd/internal/config"
	"hearth/engine/budget"
	"hearth/engine/mqtt"
	"hearth/httpd/mdns"
	"hearth/httpd/mqttd"
)

// serveThings starts the broker, where there is to be a door for it. Browsers
// reach it at the path /mqtt of the doors for clients.
func (h *hub) serveThings(shares budget.Shares) error {
	if len(h.config.MQTTListen) == 0 {
		return nil
	}
	broker, err := h.engine.ServeThings(mqtt.Limits{AllMemory: shares.Limit / 16})
	if err != nil {
		return err
	}
	h.broker = broker
	h.things = mqttd.New(mqttd.Options{Broker: broker, Log: h.log, Conns: shares.Conns, Bytes: shares.Limit / 32, Out: shares.Limit / 16})
	return nil
}

// openMQTT opens the doors of things.
func (h *hub) openMQTT() (err error) {
	c := h.config
	var open []string
	for _, listen := range c.MQTTListen {
		addr, secure := strings.CutPrefix(listen, config.TLSPrefix)
		var conf *tls.Config
		d := door{what: "things", url: "mqtt://"}
		if secure {
			if conf, d.note, err = h.thingTLS(); err != nil {
				return err
			}
			d.url = "mqtts://"
		}
		at, err := h.things.Listen(addr, conf)
		if err != nil {
			return listenError(c, "mqtt_listen", addr, err)
		}
		typ := "_mqtt._tcp"
		if secure {
			typ = "_secure-mqtt._tcp"
		}
		h.found(at, mdns.Service{Type: typ})
		d.url += reachable(at)
		h.doors = append(h.doors, d)
		if listen = at.String(); secure {
			listen = config.TLSPrefix + listen
		}
		open = append(open, listen)
	}
	h.thingsAt.Store(&open)
	return nil
}

// whereThings are the addresses that things find the hub at.
func (h *hub) whereThings() []string {
	open := h.thingsAt.Load()
	if open == nil {
		return nil
	}
	return thingAddresses(*open, h.config.MDNS)
}

// thingTLS is the hub's certificate, with the CA that things' own come from.
func (h *hub) thingTLS() (*tls.Config, string, error) {
	conf, note, err := h.certificate()
	if err != nil {
		return nil, "", err
	}
	ca, err := h.engine.Things.CA()
	if err != nil {
		return nil, "", err
	}
	conf = conf.Clone()
	conf.ClientCAs = x509.NewCertPool()
	conf.ClientCAs.AddCert(ca)
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	conf.NextProtos = nil
	return conf, note, nil
}
