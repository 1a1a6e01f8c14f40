package engine

import (
	"context"

	"hearth/engine/account"
	"hearth/engine/appservice"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// openServices makes the application services ready.
func (e *Engine) openServices(o *Options) (err error) {
	so := o.AppServices
	so.Now, so.Log = e.clock.now, o.Log
	so.Aliases = func(num room.Num) ([]mxid.Alias, error) { return e.Directory.Aliases(uint32(num)) }
	e.AppServices, err = appservice.Open(appservice.Parts{
		Store: e.st, Log: e.log, Rooms: e.Rooms, Accounts: e.Accounts, Ephemeral: e.Ephemeral, E2EE: e.E2EE,
	}, so)
	if err != nil {
		return err
	}
	return e.makeSenders(e.AppServices.Services())
}

// makeSenders makes the users that services are themselves.
func (e *Engine) makeSenders(set *appservice.Set) error {
	for _, s := range set.All() {
		user, err := e.Accounts.Find(s.Sender)
		if err != nil {
			return err
		}
		if user != 0 {
			continue
		}
		_, err = e.Accounts.Create(account.NewUser{Localpart: s.Sender.Localpart()})
		if err != nil && !fault.Is(err, fault.UserInUse) && !fault.Is(err, fault.Full) {
			return err
		}
	}
	return nil
}

// SetServices has other application services take effect.
func (e *Engine) SetServices(set *appservice.Set) error {
	if err := e.makeSenders(set); err != nil {
		return err
	}
	return e.AppServices.Replace(set)
}

// Exclusive refuses the name of a user that is an application service's alone;
// service is the id of the one that asks, empty for everybody else.
// Spec: application-service, registration.
func (e *Engine) Exclusive(id mxid.UserID, service string) error {
	if owner := e.AppServices.Services().Owner(id); owner != nil && owner.ID != service {
		return fault.E(fault.Exclusive, "engine.Exclusive", "the name is reserved for the application service %s", owner.ID)
	}
	return nil
}

// exclusiveAlias is Exclusive for an alias, which a user wants to make: the
// service itself, or one who is its own alone.
func (e *Engine) exclusiveAlias(alias mxid.Alias, maker mxid.UserID) error {
	owner := e.AppServices.Services().AliasOwner(alias)
	if owner == nil || e.AppServices.Services().Owner(maker) == owner {
		return nil
	}
	return fault.E(fault.Exclusive, "engine.AddAlias", "the alias is reserved for the application service %s", owner.ID)
}

// ResolveAsking is Resolve that asks the application services for an alias of
// this hub that is not there, which lets them make it. Errors: also ServiceSilent.
// Spec: application-service, querying.
func (e *Engine) ResolveAsking(ctx context.Context, idOrAlias string) (room.Num, error) {
	num, err := e.Resolve(idOrAlias)
	if !fault.Is(err, fault.NotFound) || idOrAlias == "" || idOrAlias[0] != '#' {
		return num, err
	}
	alias := mxid.Alias(idOrAlias)
	if alias.Server() != e.Server {
		return num, err
	}
	known, asked := e.AppServices.QueryAlias(ctx, alias)
	if asked != nil {
		return num, silent(asked)
	}
	if !known {
		return num, err
	}
	return e.Resolve(idOrAlias)
}

// silent is what becomes of a question that a service did not answer.
func silent(err error) error {
	return fault.E(fault.ServiceSilent, "engine.services", "who would know does not answer: %w", err)
}

// FindUser gives the number of a user of this hub, whom the application services
// may make for it; 0 where there is none. Errors: ServiceSilent.
// Spec: application-service, querying.
func (e *Engine) FindUser(ctx context.Context, id mxid.UserID) (uint32, error) {
	user, err := e.Accounts.Find(id)
	if err != nil || user != 0 || id.Server() != e.Server {
		return user, err
	}
	known, err := e.AppServices.QueryUser(ctx, id)
	if err != nil {
		return 0, silent(err)
	}
	if !known {
		return 0, nil
	}
	return e.Accounts.Find(id)
}
