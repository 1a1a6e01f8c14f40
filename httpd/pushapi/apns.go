package pushapi

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
)

const (
	applePush    = "https://api.push.apple.com"
	appleSandbox = "https://api.sandbox.push.apple.com"
	// appleLife is how long a token serves: Apple takes none that is older than an
	// hour, and no new one before twenty minutes.
	appleLife  = 50 * time.Minute
	appleLeast = 20 * time.Minute
	maxApple   = 4096
)

// appleToken makes the token that names the team. It asks nobody.
// Reference: Establishing a token-based connection to APNs.
func (v *vendor) appleToken(context.Context) (string, time.Time, error) {
	now := v.g.o.Now()
	claims := object{'{'}
	claims.text("iss", v.app.Team)
	claims.raw("iat", strconv.AppendInt(nil, now.Unix(), 10))
	token, err := es256(v.app.key.(*ecdsa.PrivateKey), v.app.KeyID, claims.end())
	return token, now.Add(appleLife), err
}

// toApple tells a device by Apple's service, which speaks HTTP/2.
// Reference: Sending notification requests to APNs.
func (v *vendor) toApple(ctx context.Context, n *notification, d *device, token string) error {
	key, ok := appleKey(d.Key)
	if !ok {
		return errRejected
	}
	base := applePush
	if v.app.Sandbox {
		base = appleSandbox
	}
	if v.app.URL != "" {
		base = strings.TrimSuffix(v.app.URL, "/")
	}
	body, alert := n.apple(d)
	header := map[string]string{
		"Authorization": "bearer " + token, "apns-topic": v.app.Topic, "apns-push-type": "alert", "apns-priority": "10",
		"apns-expiration": strconv.FormatInt(v.g.o.Now().Add(n.life()).Unix(), 10), "Content-Type": "application/json",
	}
	if !alert {
		header["apns-push-type"] = "background"
	}
	if !alert || !n.urgent() {
		header["apns-priority"] = "5"
	}
	a, err := v.g.o.Ask(ctx, &Request{Method: "POST", URL: base + "/3/device/" + key, Header: header, Body: body})
	if err != nil {
		return err
	}
	reason := ""
	if cjson.Check(a.Body) == nil {
		reason, _ = cjson.LookupString(a.Body, "reason")
	}
	switch reason {
	case "BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken":
		return errRejected
	case "ExpiredProviderToken", "MissingProviderToken":
		return staleError{}
	case "InvalidProviderToken", "TooManyProviderTokenUpdates":
		return &laterError{fmt.Sprintf("Apple refuses the key of %s: %s", v.app.ID, reason), 0}
	}
	return judge(a, v.g.o.Now())
}

// appleKey gives a device token in hexadecimal. Apps hand it out so, or in base64.
func appleKey(key string) (string, bool) {
	if len(key) >= 64 && len(key) <= 200 {
		if _, err := hex.DecodeString(key); err == nil {
			return strings.ToLower(key), true
		}
	}
	raw, err := decode64(key)
	if err != nil || len(raw) < 16 || len(raw) > 100 {
		return "", false
	}
	return hex.EncodeToString(raw), true
}

// apple is a notification as Apple's service wants it. alert says whether there
// is something to show; the rest is for the app alone, in the background.
func (n *notification) apple(d *device) (body []byte, alert bool) {
	for cut := range 3 {
		if body, alert = n.appleCut(d, cut); len(body) <= maxApple {
			break
		}
	}
	return body, alert
}

func (n *notification) appleCut(d *device, cut int) (body []byte, alert bool) {
	aps := object{'{'}
	given, _ := cjson.Lookup(orObject(d.Data.Default), "aps")
	_ = cjson.Object(orObject(given), func(key, val []byte) bool { // part of a body that was checked
		if cut < 2 {
			aps.raw(string(key), val)
			alert = alert || string(key) == "alert"
		}
		return true
	})
	if n.Event != "" && !alert {
		alert = true
		aps.raw("alert", n.appleText(d))
		aps.raw("mutable-content", []byte("1")) // the app may put the decrypted text in its place
		if len(d.Tweaks.Sound) > 0 {
			aps.text("sound", "default")
		}
	}
	if n.Counts.Unread != nil {
		aps.number("badge", n.Counts.Unread)
		alert = true // a badge is shown
	}
	if !alert {
		aps.raw("content-available", []byte("1"))
	}
	flat := n.flat(d, cut+1) // what an alert shows is its text
	o := object{'{'}
	_ = cjson.Object(flat, func(key, val []byte) bool { // it was made here
		if string(key) != "aps" {
			o.raw(string(key), val)
		}
		return true
	})
	if n.Counts.Unread != nil {
		o.number("unread_count", n.Counts.Unread)
	}
	o.raw("aps", aps.end())
	return o.end(), alert
}

// orObject is val, or the empty object.
func orObject(val []byte) []byte {
	if cjson.KindOf(val) != cjson.ObjectKind {
		return []byte("{}")
	}
	return val
}

// appleText is title and text of an alert.
func (n *notification) appleText(d *device) []byte {
	o := object{'{'}
	who, where := n.SenderName, n.RoomName
	if who == "" {
		who = n.Sender
	}
	if where == "" {
		where = n.RoomAlias
	}
	text := n.body(d)
	switch {
	case d.brief() || who == "":
		o.text("body", "New message")
	case text == "":
		o.text("title", short(where, 128))
		o.text("body", "Message from "+short(who, 128))
	case where == "":
		o.text("title", short(who, 128))
		o.text("body", text)
	default:
		o.text("title", short(where, 128))
		o.text("body", short(who, 128)+": "+text)
	}
	return o.end()
}
