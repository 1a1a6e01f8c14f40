// Package auth answers one question: may this event follow from this state?
//
// It owns the authorisation rules of room versions 1 to 12 and the selection of
// auth events, as pure functions of an event and the state it is checked against:
// no store, no clock, no network. The versions differ by flags of event.Version,
// never by copies of a rule. Comments name the newest version that has the rule,
// so "rooms v12, auth rule 5.3" is where to look it up; in versions 6 to 11 most
// rules have a number lower by one.
//
// It refuses to verify what needs a key from elsewhere: that an event is signed by
// its sender's server, and by the server AuthorisedVia names, is for the caller.
// The one signature checked here is that of a third-party invite, whose keys stand
// in the state itself.
//
// The rules are the same for state resolution, for events from other servers and
// for our own, since servers that disagree about a rule disagree about the room.
// Where the specification leaves a case open, the deployed servers' reading is
// taken and the comment says so.
package auth
