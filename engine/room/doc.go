// Package room owns the event graph: rooms, their events, extremities, state,
// members, relations and timelines. Every event, made here or elsewhere, reaches
// the disk through one function (append.go).
//
// It refuses to know the network, accounts and sockets. What it lacks it
// returns; what has to change together with an event goes into the batch that
// the caller may add to (Writer.Commit).
//
// Three numbers are kept apart. An event number (EventNum) is given at arrival
// and keys body and state. A log position is given when readers must be told.
// A timeline key (Key) orders a room: position, then fill, which counts down
// for events that were back-filled before that position.
//
// A room's history can be removed before a place, its floor (trim.go): readers see
// it gone at once (trimmed.go), its rows go in pieces, and of what is left over that
// is removed which nothing needs (sweep.go).
//
// A room's present is an immutable Head, replaced as a whole when a commit was
// applied; readers take it without a lock. It may be newer than the log's tip
// by a sync that is under way: what is told to anybody waits for Settled.
package room
