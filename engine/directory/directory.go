// Package directory owns room aliases and the list of published rooms. It
// knows rooms by their numbers only; who may change what is decided by its
// callers, who know the rooms' power levels.
package directory

import (
	"encoding/binary"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Directory is the open directory.
type Directory struct {
	st *store.Store
}

// Open makes the directory of a store available.
func Open(st *store.Store) *Directory { return &Directory{st} }

func aliasKey(alias mxid.Alias) []byte { return append(store.Alias.Prefix(), alias...) }

func roomAliasKey(room uint32, alias mxid.Alias) []byte {
	return append(store.U32(store.RoomAlias.Prefix(), room), alias...)
}

// Resolve finds the room of an alias of this hub and the user who made it.
// NotFound where there is none.
func (d *Directory) Resolve(alias mxid.Alias) (room, creator uint32, err error) {
	val, ok, err := d.st.Get(nil, aliasKey(alias))
	if err != nil {
		return 0, 0, err
	}
	if !ok {
		return 0, 0, fault.E(fault.NotFound, "directory.Resolve", "room alias not found")
	}
	if len(val) != 8 {
		return 0, 0, fault.E(fault.Corrupt, "directory.Resolve", "an alias row of %d bytes", len(val))
	}
	return binary.BigEndian.Uint32(val), binary.BigEndian.Uint32(val[4:]), nil
}

// Put adds an alias to a batch. Whether it is taken is the caller's to ask,
// under a lock of its own.
func (d *Directory) Put(b *store.Batch, alias mxid.Alias, room, creator uint32) {
	b.Set(aliasKey(alias), store.U32(store.U32(nil, room), creator))
	b.Set(roomAliasKey(room, alias), nil)
}

// Drop removes an alias in a batch.
func (d *Directory) Drop(b *store.Batch, alias mxid.Alias, room uint32) {
	b.Delete(aliasKey(alias))
	b.Delete(roomAliasKey(room, alias))
}

// Aliases lists the aliases of a room, sorted.
func (d *Directory) Aliases(room uint32) (list []mxid.Alias, err error) {
	prefix := store.U32(store.RoomAlias.Prefix(), room)
	err = d.st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
		list = append(list, mxid.Alias(key[len(prefix):]))
		return true, nil
	})
	return list, err
}

// Publish puts a room into the public list, or takes it out.
func (d *Directory) Publish(b *store.Batch, room uint32, on bool) {
	key := store.U32(store.Published.Prefix(), room)
	if on {
		b.Set(key, nil)
	} else {
		b.Delete(key)
	}
}

// IsPublished says whether a room stands in the public list.
func (d *Directory) IsPublished(room uint32) (bool, error) {
	return d.st.Has(store.U32(store.Published.Prefix(), room))
}

// Published calls f for the rooms of the public list with numbers above after,
// in order.
func (d *Directory) Published(after uint32, f func(room uint32) (more bool)) error {
	prefix := store.Published.Prefix()
	return d.st.Scan(store.U32(store.Published.Prefix(), after+1), store.After(prefix), func(key, _ []byte) (bool, error) {
		if len(key) != 5 {
			return false, fault.E(fault.Corrupt, "directory.Published", "a key of %d bytes", len(key))
		}
		return f(binary.BigEndian.Uint32(key[1:])), nil
	})
}
