// Package pushrule decides what an event means to one user: silence, a
// notification, a highlight.
//
// It owns the server's default rules, the user's own rules and changes, the
// conditions and the globs, and how both are edited and shown. It keeps nothing:
// a Ruleset is made from bytes that package account stores, and gives bytes
// back. It reads no store, no clock and no room; what a rule asks about the room
// comes in with the Target.
//
// Unread counts run every event of a room past the rules of every reader, so
// Evaluate allocates nothing for a plain message under default rules: patterns
// are lower-cased once, paths are split once, and values are looked up in the
// event's canonical bytes in place.
//
// The rules that look for a display name, a user name or "@room" in the text of a
// message left the default set of the specification in v1.17. They stay here,
// because things and older clients name nobody in m.mentions; an event that has
// m.mentions passes them by, as v1.7 to v1.16 asked.
package pushrule
