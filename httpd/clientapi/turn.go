package clientapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/httpd/wire"
)

// TURN says which servers relay calls for clients that cannot reach each other.
type TURN struct {
	URIs     []string      // "turn:turn.example:3478?transport=udp"
	Secret   string        // shared with the servers, for names and passwords that expire; empty: the two below are told
	User     string        // a fixed name
	Password string        // and its password
	Life     time.Duration // of what is told; 0: a day
}

// Spec: client-server, GET /voip/turnServer. Where there is no server the answer says
// nothing: an empty list is handed by matrix-js-sdk to the browser, which makes no
// connection with one and so no call, and after an error clients ask again and again.
func (a *API) turnServer(r *wire.Req) error {
	t := &a.o.TURN
	if len(t.URIs) == 0 {
		return r.Empty()
	}
	life := t.Life
	if life == 0 {
		life = 24 * time.Hour
	}
	name, password := t.User, t.Password
	if t.Secret != "" {
		// The servers know nothing but the secret: the name says until when it is
		// good, and the password proves that the hub made it.
		name = strconv.FormatInt(a.o.Now().Add(life).Unix(), 10) + ":" + string(r.Session.UserID)
		mac := hmac.New(sha1.New, []byte(t.Secret))
		mac.Write([]byte(name))
		password = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	dst := cjson.AppendString(append(r.Out(), `{"password":`...), password)
	dst = strconv.AppendInt(append(dst, `,"ttl":`...), int64(life/time.Second), 10)
	dst = cjson.AppendStrings(append(dst, `,"uris":`...), t.URIs)
	dst = cjson.AppendString(append(dst, `,"username":`...), name)
	return r.OK(append(dst, '}'))
}
