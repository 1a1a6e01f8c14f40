package engine

import (
	"crypto/rand"

	"hearth/engine/fault"
)

// Secret gives 32 random bytes under a name, the same ones each time: what a part
// of the hub outside the engine makes its keys of. They lie in the store, so they
// are in its backups.
func (e *Engine) Secret(name string) ([]byte, error) {
	e.secrets.Lock()
	defer e.secrets.Unlock()
	name = "secret/" + name
	kept, ok, err := e.st.Meta(name)
	if err != nil {
		return nil, err
	}
	if ok {
		if len(kept) != 32 {
			return nil, fault.E(fault.Corrupt, "engine.Secret", "%s has %d bytes", name, len(kept))
		}
		return kept, nil
	}
	made := make([]byte, 32)
	rand.Read(made) // never fails
	b := e.st.NewBatch()
	b.SetMeta(name, made)
	return made, e.st.Commit(b)
}
