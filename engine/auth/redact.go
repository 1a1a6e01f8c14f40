package auth

import "hearth/engine/event"

// redaction is the rule for m.room.redaction in versions 1 and 2; level is the
// sender's.
func (c *check) redaction(level int64) error {
	// Spec: rooms v2, auth rule 11.1.
	if level >= c.levels().Redact() {
		return nil
	}
	// Spec: rooms v2, auth rule 11.2.
	if server := c.e.ID.Server(); server != "" && server == c.e.Redacts.Server() {
		return nil
	}
	return deny("redacting an event of another server needs power level %d", c.levels().Redact())
}

// MayRedact says whether a redaction that the rules allow is to be applied to its
// target: the power level is enough, or both senders are of one server. In versions
// 1 and 2 the rules have settled that already.
// Spec: rooms v12, handling redactions.
func MayRedact(redaction, target *event.Event, pl *PowerLevels) bool {
	if redaction.Version.RedactByDomain {
		return true
	}
	return pl.UserLevel(redaction.Sender) >= pl.Redact() ||
		redaction.Sender.Server() == target.Sender.Server()
}
