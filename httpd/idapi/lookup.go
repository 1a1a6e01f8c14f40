package idapi

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/identity"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: identity service, GET /hash_details.
func (a *API) hashDetails(r *wire.Req, _ mxid.UserID) error {
	pepper, err := a.records.HashDetails()
	if err != nil {
		return err
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"algorithms":["sha256","none"],"lookup_pepper":`...), pepper), '}'))
}

// Spec: identity service, POST /lookup.
func (a *API) lookup(r *wire.Req, user mxid.UserID) error {
	var q struct {
		Algorithm *string   `json:"algorithm"`
		Pepper    *string   `json:"pepper"`
		Addresses *[]string `json:"addresses"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Algorithm == nil || q.Pepper == nil || q.Addresses == nil {
		return missing("algorithm, pepper and addresses")
	}
	if err := a.lookups.take(string(user), len(*q.Addresses)+1); err != nil {
		return err
	}
	if err := a.servers.take(string(user.Server()), len(*q.Addresses)+1); err != nil {
		return err
	}
	dst := append(r.Out(), `{"mappings":{`...)
	first := true
	err := a.records.Lookup(*q.Algorithm, *q.Pepper, *q.Addresses, func(asked string, user mxid.UserID) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = cjson.AppendString(append(cjson.AppendString(dst, asked), ':'), user)
	})
	if err != nil {
		return err
	}
	return r.OK(append(dst, `}}`...))
}

// lookupOne finds one address, and says so in the service's name.
// Spec: identity service r0.3.0, GET /lookup.
func (a *API) lookupOne(r *wire.Req) error {
	medium, ok := r.Query("medium")
	text, ok2 := r.Query("address")
	if !ok || !ok2 {
		return missing("medium and address")
	}
	if err := a.lookups.take(asker(r, ""), 1); err != nil {
		return err
	}
	found, err := a.records.Find(identity.Address{Medium: medium, Text: text})
	if err != nil {
		return err
	}
	if found == nil {
		return r.Empty()
	}
	return r.OK(append(r.Out(), found...))
}

// Spec: identity service r0.3.0, POST /bulk_lookup.
func (a *API) lookupMany(r *wire.Req) error {
	var q struct {
		Threepids *[][]string `json:"threepids"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Threepids == nil {
		return missing("threepids")
	}
	if len(*q.Threepids) > identity.MaxLookup {
		return fault.E(fault.Invalid, "idapi.bulkLookup", "at most %d addresses are looked up at a time", identity.MaxLookup)
	}
	if err := a.lookups.take(asker(r, ""), len(*q.Threepids)+1); err != nil {
		return err
	}
	dst := append(r.Out(), `{"threepids":[`...)
	first := true
	for _, pair := range *q.Threepids {
		if len(pair) != 2 {
			return fault.E(fault.Invalid, "idapi.bulkLookup", "each of threepids is a medium and an address")
		}
		user, err := a.records.User(identity.Address{Medium: pair[0], Text: pair[1]})
		if err != nil {
			return err
		}
		if user == "" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(append(dst, '['), pair[0]), ',')
		dst = append(cjson.AppendString(dst, pair[1]), ',')
		dst = append(cjson.AppendString(dst, user), ']')
	}
	return r.OK(append(dst, `]}`...))
}
