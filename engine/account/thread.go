package account

import (
	"encoding/binary"

	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Subscription is what a user wants to hear of a thread. Spec: MSC4306.
type Subscription struct {
	Pos       stream.Pos // of the log when it was last changed
	Automatic bool       // a client subscribed by itself
	Ended     bool       // the user has unsubscribed
}

// maxSubscriptions bounds the threads that a user has ever subscribed to.
const maxSubscriptions = 20_000

func subscriptionKey(user, room uint32, root mxid.EventID) []byte {
	return append(store.U32(store.U32(store.ThreadSubscription.Prefix(), user), room), root...)
}

// Subscription reads what a user wants to hear of a thread; ok is false where
// they never said.
func (a *Accounts) Subscription(user, room uint32, root mxid.EventID) (s Subscription, ok bool, err error) {
	row, ok, err := a.st.Get(nil, subscriptionKey(user, room, root))
	if err != nil || !ok {
		return s, false, err
	}
	s, err = parseSubscription(row)
	return s, true, err
}

func parseSubscription(row []byte) (s Subscription, err error) {
	r := fields.Open(row)
	s.Pos = stream.Pos(r.Uint())
	flags := r.Uint()
	s.Automatic, s.Ended = flags&1 != 0, flags&2 != 0
	return s, rowErr(&r, "a thread subscription")
}

// Subscribe has a user hear of a thread. cause is where the reply lies that had
// a client do so by itself, 0 where the user asked for it.
//
// Errors: Unsubscribed where the user has unsubscribed since that reply.
func (a *Accounts) Subscribe(user, room uint32, root mxid.EventID, cause stream.Pos) error {
	defer a.Hold(user)()
	old, had, err := a.Subscription(user, room, root)
	if err != nil {
		return err
	}
	next := Subscription{Automatic: cause != 0}
	switch {
	case had && cause != 0 && old.Ended && old.Pos >= cause:
		return fault.E(fault.Unsubscribed, "account.Subscribe", "you have unsubscribed since that event")
	case had && !old.Ended && (next.Automatic || !old.Automatic):
		return nil // what the user asked for stays; so does what is the same
	case !had:
		if err := a.roomForSubscription(user); err != nil {
			return err
		}
	}
	return a.putSubscription(user, room, root, next)
}

// Unsubscribe has a user hear no more of a thread. Who was not subscribed stays so.
func (a *Accounts) Unsubscribe(user, room uint32, root mxid.EventID) error {
	defer a.Hold(user)()
	old, had, err := a.Subscription(user, room, root)
	if err != nil || !had || old.Ended {
		return err
	}
	return a.putSubscription(user, room, root, Subscription{Ended: true})
}

func (a *Accounts) putSubscription(user, room uint32, root mxid.EventID, s Subscription) error {
	_, err := a.log.Commit(func(tx *stream.Tx) error {
		flags := byte(0)
		if s.Automatic {
			flags |= 1
		}
		if s.Ended {
			flags |= 2
		}
		pos := tx.Put(&stream.Entry{Kind: stream.Local, Room: room, User: user})
		row := binary.AppendUvarint(fields.New(), uint64(pos))
		tx.Set(subscriptionKey(user, room, root), append(row, flags))
		tx.Wake(user)
		return nil
	})
	return err
}

// ThreadChange is the last change of a thread subscription.
type ThreadChange struct {
	Room uint32
	Root mxid.EventID
	Subscription
}

// Subscriptions lists a user's thread subscriptions, ended ones too, that last
// changed after the one position and not after the other.
func (a *Accounts) Subscriptions(user uint32, after, upto stream.Pos) (list []ThreadChange, err error) {
	prefix := store.U32(store.ThreadSubscription.Prefix(), user)
	err = a.st.ScanPrefix(prefix, func(key, row []byte) (bool, error) {
		c := ThreadChange{Room: binary.BigEndian.Uint32(key[len(prefix):]), Root: mxid.EventID(key[len(prefix)+4:])}
		var err error
		if c.Subscription, err = parseSubscription(row); err != nil {
			return false, err
		}
		if c.Pos > after && c.Pos <= upto {
			list = append(list, c)
		}
		return true, nil
	})
	return list, err
}

func (a *Accounts) roomForSubscription(user uint32) error {
	n := 0
	err := a.st.ScanPrefix(store.U32(store.ThreadSubscription.Prefix(), user), func(_, _ []byte) (bool, error) {
		n++
		return n < maxSubscriptions, nil
	})
	if err == nil && n >= maxSubscriptions {
		err = fault.E(fault.Forbidden, "account.Subscribe", "a user has at most %d thread subscriptions", maxSubscriptions)
	}
	return err
}
