package engine

import "hearth/engine/fault"

// Healthy says whether the hub does its work: something was committed since the
// last call, or a small commit works now. A full disk is no illness: the hub
// refuses writes then, and starting it anew would not help. It is for one caller
// at a time, a watchdog.
func (e *Engine) Healthy() error {
	tip := e.log.Tip()
	if e.beat.Swap(uint64(tip)) != uint64(tip) {
		return nil
	}
	b := e.st.NewBatch()
	b.SetMeta("beat", nil)
	if err := e.st.Commit(b); err != nil && !fault.Is(err, fault.Full) {
		return err
	}
	return nil
}
