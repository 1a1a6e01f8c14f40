// Package engine is the Hearth server without a socket. It opens the store,
// builds the parts in order, and holds the few operations that change several
// records in one batch.
//
// # The walk of one event
//
//  1. httpd/clientapi/send.go reads token, size and transaction id, and calls
//     Engine.Send, which hands the content as it came to Rooms.Send.
//  2. room/send.go takes the room's Writer; room/writer.go builds the event on
//     the room's extremities (event.Build), checks it (auth.CheckWith), and
//     room/stage.go works out what it makes of state, members and relations.
//  3. room/append.go puts everything into one batch: body, id, timeline,
//     snapshot, members, relation, transaction, room row, log entry. Every event,
//     local or remote, reaches the disk through this one function.
//  4. stream/log.go gives the position, applies the batch and publishes the
//     room's new head under one lock, and waits for the disk outside it; then the
//     tip moves and the parked requests of the room's members on this hub are woken.
//  5. engine/sync wakes with a position, reads up to the tip and appends JSON to
//     its answer.
//
// The other door is Writer.Accept (room/accept.go) for events that other servers
// made: it judges them, names the gap that has to be filled first, resolves what
// forks leave of the state (room/resolve.go) and stages them for the same
// append.go.
//
// Readers never look past the tip, and the tip moves only after the disk has
// the log: a commit can be seen by readers of the store before it is safe.
//
// # Where this departs from the first design, and why
//
//   - Relations are keyed by the id of the event related to, not by its number:
//     a child that arrives first needs no second row that is settled later.
//   - Snapshots have no reference counts: they go with their room, all at once. A
//     count would be one more row to write for every message.
//   - A purge does not know a room's events beforehand: it walks all bodies, with
//     a cursor. An index of events by room would be one more row for every message.
//   - A parked /sync holds no goroutine: its handler returns and the connection
//     waits by itself (httpd/wire, Waiting), at a third of the memory.
//   - Transactions are kept by day and looked for through a filter in memory, so
//     that their end is one deletion a day and a new one costs no read.
//   - The keys of servers are a record of their own (keyring), not a part of
//     federation: package engine checks our own events with them too. The server
//     through which a room is joined is not asked for the keys of the others: it
//     could make them up, and its room with them.
//   - fault has a kind for each answer that a Matrix client can tell apart, not
//     eight: the table in httpd/wire stays the only place that spells errcodes.
package engine
