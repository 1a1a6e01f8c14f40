package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"hearth/cmd/internal/config"
	"hearth/engine/mqtt"
	"hearth/httpd/mqttd"
)

// openMQTT opens the doors of things.
func (h *hub) openMQTT(conns int) error {
	c := h.config
	if len(c.MQTTListen) == 0 {
		return nil
	}
	broker, err := h.engine.ServeThings(mqtt.Limits{})
	if err != nil {
		return err
	}
	h.things = mqttd.New(mqttd.Options{Broker: broker, Log: h.log, Conns: conns})
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
		d.url += reachable(at)
		h.doors = append(h.doors, d)
	}
	return nil
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
