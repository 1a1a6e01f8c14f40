package engine

import (
	"hearth/engine/mqtt"
)

// OpenBroker starts the broker for things on the engine's store. The store, the
// clock and the log in o are the engine's. It has to be closed before the engine.
func (e *Engine) OpenBroker(o mqtt.Options) (*mqtt.Broker, error) {
	o.Store, o.Now = e.st, e.clock.now
	return mqtt.Open(o)
}
