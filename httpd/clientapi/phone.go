package clientapi

import (
	"net/netip"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// Text sends a text message to a number, digits without a plus, at the wish of
// whoever asks from an address, and returns when it is on its way.
type Text func(from netip.Addr, to, text string) error

// texts says whether the hub sends text messages. Clients have to be told where
// the code in one is to be given.
func (a *API) texts() bool { return a.o.Text != nil && a.o.PublicURL != "" }

// requestPhone is the three requests for a proof by a text message.
// Spec: client-server, POST /register/msisdn/requestToken, POST
// /account/password/msisdn/requestToken, POST /account/3pid/msisdn/requestToken.
func (a *API) requestPhone(p purpose) wire.Handler {
	return func(r *wire.Req) error {
		var q tokenRequest
		if err := r.Decode(&q); err != nil {
			return err
		}
		if err := q.check(q.Country != nil && q.Phone != nil); err != nil {
			return err
		}
		if !a.texts() {
			return unsupported(p, "text messages")
		}
		number, err := account.CanonicalPhone(*q.Country, *q.Phone)
		if err != nil {
			return err
		}
		if err := a.mayProve(p, account.Phone, number); err != nil {
			return err
		}
		sid, err := a.sendCode(r.Remote(), want{p, *q.Secret, account.Phone, number, *q.Attempt, q.Next})
		if err != nil {
			return err
		}
		return r.Answer(struct {
			SID     string `json:"sid"`
			Number  string `json:"msisdn"`
			Written string `json:"intl_fmt"`
			Submit  string `json:"submit_url"`
		}{sid, number, "+" + number, strings.TrimSuffix(a.o.PublicURL, "/") + confirmPath})
	}
}

// sendCode sends the message with the code, unless that was done for the same
// request before.
func (a *API) sendCode(from netip.Addr, w want) (sid string, err error) {
	v, send, err := a.proofs.begin(w)
	if err != nil || !send {
		return v.sid, err
	}
	err = a.o.Text(from, v.address, v.token+" is your code for "+string(a.engine.Server)+". If you did not ask for it, ignore this message.")
	if err == nil {
		return v.sid, nil
	}
	a.proofs.failed(v.sid)
	if fault.Is(err, fault.Limit) {
		return "", err
	}
	if a.o.Failed != nil {
		a.o.Failed("sending a text message", err)
	}
	return "", fault.E(fault.Remote, "clientapi.requestToken", "the message could not be sent; try again later")
}

// phoneStage sends the message of the stage, and asks for its code. The secret is
// the exchange's id: whoever has that may pass its stages.
func (a *API) phoneStage(r *wire.Req, x *exchange, number string) error {
	address, ok := canonical(account.Phone, strings.TrimSpace(number))
	if !ok {
		return a.askStage(r, x, 400, "This is no phone number. Please begin it with + and the code of your country.")
	}
	err := a.mayProve(x.q.purpose, account.Phone, address)
	var sid string
	if err == nil {
		sid, err = a.sendCode(r.Remote(), want{x.q.purpose, x.id, account.Phone, address, a.o.Now().UnixMilli(), ""})
	}
	if err != nil {
		text, again := reason(err)
		if !again {
			text = "The message could not be sent. Please try again later."
		}
		return a.askStage(r, x, 400, text)
	}
	return a.askCode(r, x, sid, "")
}

func (a *API) askCode(r *wire.Req, x *exchange, sid, wrong string) error {
	return show(r, page{status: 200, title: "One more step", body: warning(wrong) +
		paragraph("A text message with a code is on its way.") +
		form(lineField("Code", "code", "text", "one-time-code"), "Go on", [2]string{"session", x.id}, [2]string{"sid", sid}, [2]string{"client_secret", x.id})})
}

// codeStage takes the code that was typed, and passes the stage.
func (a *API) codeStage(r *wire.Req, x *exchange, f *values) error {
	if _, err := a.proofs.confirm(f.get("sid"), x.id, strings.TrimSpace(f.get("code"))); err != nil {
		return a.askCode(r, x, f.get("sid"), "This is not the code.")
	}
	creds := append(cjson.AppendString([]byte(`{"type":"`+stagePhone+`","threepid_creds":{"sid":`), f.get("sid")), `,"client_secret":`...)
	auth := append(cjson.AppendString(creds, x.id), `}}`...)
	if err := a.uia.stage(x, &x.q, auth); err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		return a.askStage(r, x, 400, text)
	}
	return passedPage(r)
}
