package idapi

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"unicode"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/identity"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// user reads a user id.
func userID(text string) (mxid.UserID, error) {
	id, err := mxid.ParseUser(text)
	if err != nil {
		return "", fault.E(fault.Invalid, "idapi", "mxid: %w", err)
	}
	return id, nil
}

// bind lets the owner of an address say whose it is. Who comes with a token says
// it of themselves only. Spec: identity service, POST /3pid/bind.
func (a *API) bind(r *wire.Req, user mxid.UserID) error {
	var q struct {
		credentials
		User *string `json:"mxid"`
	}
	if err := body(r, &q); err != nil {
		return err
	}
	if q.User == nil {
		return missing("mxid")
	}
	if err := q.check(); err != nil {
		return err
	}
	id, err := userID(*q.User)
	if err != nil {
		return err
	}
	if user != "" && user != id {
		return fault.E(fault.Forbidden, "idapi.bind", "the token is not of %s", id)
	}
	address, _, err := a.records.Proved(*q.SID, *q.Secret)
	if err != nil {
		return err
	}
	signed, err := a.records.Bind(address, id)
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), signed...))
}

// unbind takes the word of the user's homeserver, or of who has proved the
// address. Spec: identity service, POST /3pid/unbind.
func (a *API) unbind(who func(handler) wire.Handler) wire.Handler {
	proved := who(func(r *wire.Req, user mxid.UserID) error { return a.drop(r, user, "") })
	return func(r *wire.Req) error {
		header := r.Ctx.Request.Header.Peek("Authorization")
		if len(header) < 9 || !bytes.EqualFold(header[:9], []byte("X-Matrix ")) {
			return proved(r)
		}
		if a.o.Authenticate == nil {
			return fault.E(fault.Forbidden, "idapi.unbind", "this service speaks to no homeservers")
		}
		content, err := r.Object()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()
		server, err := a.o.Authenticate(ctx, &federation.Signed{
			Header: string(header), Method: "POST", URI: string(r.Ctx.Request.Header.RequestURI()), Content: content,
		})
		if err != nil {
			return fault.E(fault.Forbidden, "idapi.unbind", "the homeserver's signature does not hold: %w", err)
		}
		return a.drop(r, "", server)
	}
}

// drop forgets a binding, at the word of a homeserver, or else of a proof.
func (a *API) drop(r *wire.Req, user mxid.UserID, server mxid.Server) error {
	const op = "idapi.unbind"
	var q struct {
		credentials
		User     *string `json:"mxid"`
		Threepid *struct {
			Medium  *string `json:"medium"`
			Address *string `json:"address"`
		} `json:"threepid"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.User == nil || q.Threepid == nil || q.Threepid.Medium == nil || q.Threepid.Address == nil {
		return missing("mxid and threepid, with medium and address,")
	}
	id, err := userID(*q.User)
	if err != nil {
		return err
	}
	address := identity.Address{Medium: *q.Threepid.Medium, Text: *q.Threepid.Address}
	if address.Medium == account.Email {
		if text, err := account.CanonicalEmail(address.Text); err == nil {
			address.Text = text
		}
	}
	switch {
	case server != "":
		if id.Server() != server {
			return fault.E(fault.Forbidden, op, "%s is no user of %s", id, server)
		}
	case user != "" && user != id:
		return fault.E(fault.Forbidden, op, "the token is not of %s", id)
	default:
		if q.SID == nil && q.Secret == nil {
			return fault.E(fault.Forbidden, op, "a proof of the address is needed, or the homeserver's signature")
		}
		if err := q.check(); err != nil {
			return err
		}
		proved, _, err := a.records.Proved(*q.SID, *q.Secret)
		if err != nil {
			return err
		}
		if proved != address {
			return fault.E(fault.Forbidden, op, "the proof is of another address")
		}
	}
	if err := a.records.Unbind(address, id); err != nil {
		return err
	}
	return r.Empty()
}

// inviteRequest is what an inviter's homeserver says. The rest is for the mail.
type inviteRequest struct {
	Medium     *string `json:"medium"`
	Address    *string `json:"address"`
	Room       *string `json:"room_id"`
	Sender     *string `json:"sender"`
	RoomName   string  `json:"room_name"`
	RoomAlias  string  `json:"room_alias"`
	RoomType   string  `json:"room_type"`
	SenderName string  `json:"sender_display_name"`
}

// Spec: identity service, POST /store-invite.
func (a *API) storeInvite(r *wire.Req, user mxid.UserID) error {
	const op = "idapi.storeInvite"
	var q inviteRequest
	if err := body(r, &q); err != nil {
		return err
	}
	if q.Medium == nil || q.Address == nil || q.Room == nil || q.Sender == nil {
		return missing("medium, address, room_id and sender")
	}
	if *q.Medium != account.Email {
		return fault.E(fault.UnknownMedium, op, "people are invited by e-mail only")
	}
	text, err := account.CanonicalEmail(*q.Address)
	if err != nil {
		return fault.E(fault.BadEmail, op, "")
	}
	room, err := mxid.ParseRoom(*q.Room)
	if err != nil {
		return fault.E(fault.Invalid, op, "room_id: %w", err)
	}
	sender, err := mxid.ParseUser(*q.Sender)
	if err != nil {
		return fault.E(fault.Invalid, op, "sender: %w", err)
	}
	if user != "" && sender != user {
		return fault.E(fault.Forbidden, op, "the token is not of %s", sender)
	}
	if a.o.Mail == nil || a.o.PublicURL == "" {
		return fault.E(fault.MailFailed, op, "this service sends no mail")
	}
	address := identity.Address{Medium: account.Email, Text: text}
	if owner, err := a.records.User(address); err != nil {
		return err
	} else if owner != "" {
		return r.Fail(fault.E(fault.ThreepidInUse, op, "the address belongs to a user"), string(cjson.AppendString([]byte(`"mxid":`), owner)))
	}
	if err := a.invites.take(asker(r, user), 1); err != nil {
		return err
	}
	stored, err := a.records.Store(address, room, sender)
	if err != nil {
		return err
	}
	if err := a.mailInvite(text, &q, stored); err != nil {
		return fault.E(fault.MailFailed, op, "the mail could not be sent; try again later")
	}
	keys := func(dst []byte, key, path string) []byte {
		dst = cjson.AppendString(append(dst, `{"public_key":`...), key)
		return append(cjson.AppendString(append(dst, `,"key_validity_url":`...), a.base()+v2+path), '}')
	}
	dst := cjson.AppendString(append(r.Out(), `{"token":`...), stored.Token)
	dst = cjson.AppendString(append(dst, `,"display_name":`...), stored.Display)
	dst = keys(append(dst, `,"public_keys":[`...), stored.LongTerm, "/pubkey/isvalid")
	dst = keys(append(dst, ','), stored.Ephemeral, "/pubkey/ephemeral/isvalid")
	dst = cjson.AppendString(append(dst, `],"public_key":`...), stored.LongTerm) // for homeservers of old
	return r.OK(append(dst, '}'))
}

// mailInvite tells the invited. Names are whatever the inviter likes, so they are
// kept short and hold no links.
func (a *API) mailInvite(to string, q *inviteRequest, stored *identity.Stored) error {
	who, where, what := plain(q.SenderName), plain(q.RoomName), "a room"
	if q.RoomType == "m.space" {
		what = "a space"
	}
	if who == "" {
		who = *q.Sender
	}
	if where == "" {
		where = plain(q.RoomAlias)
	}
	subject := who + " has invited you on Matrix"
	if where != "" {
		what += ", " + where
	}
	link := a.base() + v1 + "/sign-ed25519?" + url.Values{"token": {stored.Token}, "private_key": {stored.Private}}.Encode()
	there := mxid.Link{Room: mxid.RoomID(*q.Room), Via: []mxid.Server{mxid.UserID(*q.Sender).Server()}}
	text := who + " (" + *q.Sender + ") has invited you to " + what + " on Matrix, a network for messages and calls:\n\n" + there.Web() + "\n\n" +
		"To come in, make an account with any Matrix app and server, and add this e-mail address to it under \"discovery\",\n" +
		"with the identity server " + a.base() + ". The invitation is waiting there.\n\n" +
		"Apps that accept invitations by themselves want this address; whoever has it can accept in your place:\n" + link + "\n"
	return a.o.Mail(to, subject, text)
}

// plain is a name that may stand in a mail of ours.
func plain(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '/' || c == '<' || c == '>' || c == unicode.ReplacementChar {
			return ' '
		}
		return c
	}, s)
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60])
	}
	return strings.TrimSpace(s)
}

// sign accepts an invite for who cannot sign by themselves.
// Spec: identity service, POST /sign-ed25519.
func (a *API) sign(r *wire.Req, _ mxid.UserID) error {
	q := struct {
		User    *string `json:"mxid"`
		Token   *string `json:"token"`
		Private *string `json:"private_key"`
	}{}
	if r.BodyLen() != 0 {
		if err := body(r, &q); err != nil {
			return err
		}
	}
	for _, f := range [...]struct {
		name string
		to   **string
	}{{"mxid", &q.User}, {"token", &q.Token}, {"private_key", &q.Private}} {
		// The link in the mail has the last two, and apps add the first.
		if val, ok := r.Query(f.name); ok && *f.to == nil {
			*f.to = &val
		}
		if *f.to == nil {
			return missing("mxid, token and private_key")
		}
	}
	id, err := userID(*q.User)
	if err != nil {
		return err
	}
	signed, err := a.records.Sign(id, *q.Token, *q.Private)
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), signed...))
}
