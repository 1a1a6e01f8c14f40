package clientapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// errNobodyToAsk is the answer to invites by an address where none can be found.
var errNobodyToAsk = fault.E(fault.ThreepidDenied, "clientapi.invite", "the hub asks no identity server about addresses")

// identityServer judges the name of an identity server.
func (a *API) identityServer(name string) error {
	if !a.engine.AsksIdentity() {
		return fault.E(fault.Untrusted, "clientapi.identity", "the hub speaks to no identity server")
	}
	if _, err := mxid.ParseServer(name); err != nil {
		return fault.E(fault.Invalid, "clientapi.identity", "id_server must be the name of a server")
	}
	return nil
}

// refusal is an identity server's error, which is passed on.
type refusal struct {
	status int
	body   []byte // a standard error
}

func (e *refusal) Error() string { return "the identity server refuses it" }

// passOn answers with an identity server's error. That it does not know the token
// is not said by 401: clients would take that for theirs at this hub.
func passOn(r *wire.Req, err error) error {
	e, ok := err.(*refusal)
	if !ok {
		return err
	}
	status := e.status
	if status == 401 {
		status = 403
	}
	return r.Reply(status, append(r.Out(), e.body...))
}

// ask asks and gives an object. Errors: refusal, Remote.
func (a *API) ask(ctx context.Context, q *engine.IdentityQuestion) ([]byte, error) {
	const op = "clientapi.identity"
	status, answer, err := a.engine.AskIdentity(ctx, q)
	if err != nil {
		return nil, fault.E(fault.Remote, op, "the identity server %s does not answer: %w", q.Server, err)
	}
	object := cjson.Check(answer) == nil && cjson.KindOf(answer) == cjson.ObjectKind
	if object && status/100 == 4 {
		code, _ := cjson.LookupString(answer, "errcode")
		if code != "" && (code != "M_UNRECOGNIZED" || status == 400) { // else there is no identity server
			return nil, &refusal{status, answer}
		}
	}
	if !object || status != 200 {
		return nil, fault.E(fault.Remote, op, "the identity server %s answers %d", q.Server, status)
	}
	return answer, nil
}

// bindAddress has an identity server bind an address that was proved to it.
// Spec: client-server, POST /account/3pid/bind.
func (a *API) bindAddress(r *wire.Req) error {
	var q struct {
		credentials
		Server *string `json:"id_server"`
		Token  *string `json:"id_access_token"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if err := q.missing(); err != nil {
		return err
	}
	if q.Server == nil || q.Token == nil {
		return fault.E(fault.Missing, "clientapi.bindAddress", "id_server and id_access_token are needed")
	}
	if err := a.identityServer(*q.Server); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"sid": *q.SID, "client_secret": *q.Secret, "mxid": string(r.Session.UserID)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), engine.IdentityTime)
	defer cancel()
	answer, err := a.ask(ctx, &engine.IdentityQuestion{Server: *q.Server, Method: "POST", Path: "/3pid/bind", Token: *q.Token, Body: body})
	if err != nil {
		return passOn(r, err)
	}
	medium, _ := cjson.LookupString(answer, "medium")
	address, _ := cjson.LookupString(answer, "address")
	if medium != "" && address != "" {
		if err := a.accounts.AddBound(r.Session.User, account.Bound{Medium: medium, Address: address, Server: *q.Server}); err != nil {
			return err
		}
	}
	return r.Empty()
}

const (
	unboundAll  = `{"id_server_unbind_result":"success"}`
	unboundNone = `{"id_server_unbind_result":"no-support"}`
)

// named is an address that a body names, and an identity server where it does.
type named struct{ medium, address, server string }

func namedBy(r *wire.Req) (n named, err error) {
	var q struct {
		Medium  *string `json:"medium"`
		Address *string `json:"address"`
		Server  string  `json:"id_server"`
	}
	if err := r.Decode(&q); err != nil {
		return n, err
	}
	if q.Medium == nil || q.Address == nil {
		return n, fault.E(fault.Missing, "clientapi.threepid", "medium and address are needed")
	}
	n = named{*q.Medium, *q.Address, q.Server}
	if canonical, ok := canonical(n.medium, n.address); ok {
		n.address = canonical
	}
	return n, nil
}

// unbind has an identity server forget an address of a user: the one that is
// named, or the one where the user had it bound. done says whether it did.
func (a *API) unbind(s *account.Session, n named) (done bool, err error) {
	if n.server == "" {
		if n.server, err = a.accounts.BoundAt(s.User, n.medium, n.address); err != nil || n.server == "" {
			return false, err
		}
	}
	if err := a.identityServer(n.server); err != nil {
		return false, err
	}
	q, err := engine.Unbinding(s.UserID, account.Bound{Medium: n.medium, Address: n.address, Server: n.server})
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), engine.IdentityTime)
	defer cancel()
	if _, err = a.ask(ctx, q); err != nil {
		return false, err
	}
	return true, a.accounts.DropBound(s.User, n.medium, n.address)
}

// deleteAddress takes an address from a user, also where an identity server does
// not let go of it. Spec: client-server, POST /account/3pid/delete.
func (a *API) deleteAddress(r *wire.Req) error {
	n, err := namedBy(r)
	if err != nil {
		return err
	}
	if err := a.accounts.DropThreepid(r.Session.User, n.medium, n.address); err != nil {
		return err
	}
	if done, err := a.unbind(&r.Session, n); err == nil && done {
		return r.OK(append(r.Out(), unboundAll...))
	}
	return r.OK(append(r.Out(), unboundNone...))
}

// Spec: client-server, POST /account/3pid/unbind.
func (a *API) unbindAddress(r *wire.Req) error {
	n, err := namedBy(r)
	if err != nil {
		return err
	}
	done, err := a.unbind(&r.Session, n)
	switch {
	case err == nil && done:
		return r.OK(append(r.Out(), unboundAll...))
	case err == nil, fault.Is(err, fault.Remote), fault.Is(err, fault.Untrusted):
		return r.OK(append(r.Out(), unboundNone...))
	}
	return passOn(r, err)
}

// invited is an address that somebody is invited by.
type invited struct {
	Server *string `json:"id_server"`
	Token  *string `json:"id_access_token"`
	Medium *string `json:"medium"`
	Addr   *string `json:"address"`
}

func (i *invited) check() error {
	if i.Server == nil || i.Token == nil || i.Medium == nil || i.Addr == nil {
		return fault.E(fault.Missing, "clientapi.invite", "id_server, id_access_token, medium and address are needed")
	}
	if text, ok := canonical(*i.Medium, *i.Addr); ok {
		i.Addr = &text
	}
	return nil
}

// inviteAddress invites whoever has an address, now, or when somebody has it.
// Spec: client-server, third-party invites.
func (a *API) inviteAddress(num room.Num, s *account.Session, i *invited, reason string) error {
	if !a.engine.AsksIdentity() {
		return errNobodyToAsk
	}
	if err := a.identityServer(*i.Server); err != nil {
		return err
	}
	if err := a.mayInvite(num, s); err != nil { // before a mail goes out
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), engine.IdentityTime)
	defer cancel()
	user, err := a.lookUp(ctx, i)
	if err != nil {
		return err
	}
	if user != "" {
		return a.engine.Invite(num, s.UserID, user, reason)
	}
	body, err := a.describe(num, s, i)
	if err != nil {
		return err
	}
	answer, err := a.ask(ctx, &engine.IdentityQuestion{Server: *i.Server, Method: "POST", Path: "/store-invite", Token: *i.Token, Body: body})
	if err != nil {
		return err
	}
	token, content, err := offer(answer)
	if err != nil {
		return err
	}
	_, err = a.engine.State(num, &room.Draft{Type: "m.room.third_party_invite", StateKey: &token, Sender: s.UserID, Content: content})
	return err
}

// mayInvite refuses those whose invite the room would not take.
func (a *API) mayInvite(num room.Num, s *account.Session) error {
	head, err := a.engine.Rooms.Head(num)
	if err != nil {
		return err
	}
	m, err := a.engine.Rooms.MemberOf(num, s.User)
	if err == nil && (m.Membership != room.Join || head.Levels.UserLevel(s.UserID) < head.Levels.Invite()) {
		err = fault.E(fault.Forbidden, "clientapi.invite", "you may not invite anybody to this room")
	}
	return err
}

// lookUp finds who has an address; empty where nobody has.
func (a *API) lookUp(ctx context.Context, i *invited) (mxid.UserID, error) {
	q := engine.IdentityQuestion{Server: *i.Server, Method: "GET", Path: "/hash_details", Token: *i.Token}
	answer, err := a.ask(ctx, &q)
	if err != nil {
		return "", err
	}
	var d struct {
		Pepper     string   `json:"lookup_pepper"`
		Algorithms []string `json:"algorithms"`
	}
	if err := json.Unmarshal(answer, &d); err != nil {
		return "", fault.E(fault.Remote, "clientapi.invite", "the identity server does not say how it is asked")
	}
	algorithm, asked := "none", *i.Addr+" "+*i.Medium
	if slices.Contains(d.Algorithms, "sha256") {
		sum := sha256.Sum256([]byte(asked + " " + d.Pepper))
		algorithm, asked = "sha256", base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if q.Body, err = json.Marshal(struct {
		Algorithm string   `json:"algorithm"`
		Pepper    string   `json:"pepper"`
		Addresses []string `json:"addresses"`
	}{algorithm, d.Pepper, []string{asked}}); err != nil {
		return "", err
	}
	q.Method, q.Path = "POST", "/lookup"
	if answer, err = a.ask(ctx, &q); err != nil {
		return "", err
	}
	mappings, _ := cjson.Lookup(answer, "mappings")
	if cjson.KindOf(mappings) != cjson.ObjectKind {
		return "", nil
	}
	text, ok := cjson.LookupString(mappings, asked)
	if !ok {
		return "", nil
	}
	user, err := mxid.ParseUser(text)
	if err != nil {
		return "", fault.E(fault.Remote, "clientapi.invite", "the identity server names a user that cannot be")
	}
	return user, nil
}

// describe is what the identity server may tell the invited.
func (a *API) describe(num room.Num, s *account.Session, i *invited) ([]byte, error) {
	head, err := a.engine.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{"medium": *i.Medium, "address": *i.Addr, "room_id": string(head.ID), "sender": string(s.UserID)}
	for _, f := range [...]struct{ as, typ, field string }{
		{"room_alias", "m.room.canonical_alias", "alias"}, {"room_avatar_url", "m.room.avatar", "url"}, {"room_name", "m.room.name", "name"},
		{"room_join_rules", "m.room.join_rules", "join_rule"}, {"room_type", "m.room.create", "type"},
	} {
		e, err := a.engine.Rooms.StateEvent(head.State, f.typ, "")
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if text, _ := cjson.LookupString(e.Content, f.field); text != "" {
			fields[f.as] = text
		}
	}
	name, avatar, err := a.accounts.NameAndAvatar(s.User)
	if err != nil {
		return nil, err
	}
	if name != "" {
		fields["sender_display_name"] = name
	}
	if avatar != "" {
		fields["sender_avatar_url"] = avatar
	}
	return json.Marshal(fields)
}

// maxKeys bounds the keys of an invite.
const maxKeys = 8

// offer turns what an identity server has stored into the event by which the room
// will know it again. Spec: client-server, m.room.third_party_invite.
func offer(answer []byte) (token string, content []byte, err error) {
	bad := fault.E(fault.Remote, "clientapi.invite", "the identity server answers with something that is no invite")
	type key struct {
		URL    string `json:"key_validity_url,omitempty"`
		Public string `json:"public_key"`
	}
	var got struct {
		Token   string `json:"token"`
		Display string `json:"display_name"`
		Keys    []key  `json:"public_keys"`
		Public  string `json:"public_key"`
	}
	if json.Unmarshal(answer, &got) != nil || !wire.Opaque(got.Token) || len(got.Display) > 255 || len(got.Keys) > maxKeys {
		return "", nil, bad
	}
	if len(got.Keys) == 0 {
		got.Keys = []key{{Public: got.Public}}
	}
	for _, k := range got.Keys {
		if k.Public == "" || len(k.Public) > 255 || len(k.URL) > 2048 {
			return "", nil, bad
		}
	}
	content, err = json.Marshal(struct {
		Display string `json:"display_name"`
		Keys    []key  `json:"public_keys"`
		Public  string `json:"public_key"`
		URL     string `json:"key_validity_url"`
	}{got.Display, got.Keys, got.Keys[0].Public, got.Keys[0].URL})
	return got.Token, content, err
}
