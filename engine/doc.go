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
//  6. federation/sender.go reads the log too and tells the outbox which servers
//     there is something for; federation/deliver.go cuts a transaction out of
//     what lies behind a server's cursor, and signs it.
//  7. httpd/peer finds the server and carries the bytes. On success the outbox
//     moves the cursor; on failure it stays and backs off.
//  8. The other door: httpd/fedapi/send.go learns from the signature who asks;
//     federation/receive.go checks the events' signatures (keyring) and hands them
//     to Writer.Accept (room/accept.go), which judges them, names the gap that has
//     to be filled first, resolves what forks leave of the state (room/resolve.go)
//     and stages them for the same append.go. What lacks something waits on the
//     disk (federation/pending.go) while federation/gap.go fetches it.
//
// Application services (appservice) and push (push) are readers like step 6, each
// with an outbox of its own.
//
// # The walk of one message of a thing
//
//  1. httpd/mqttd reads a PUBLISH and hands it to the Broker of engine/mqtt.
//  2. mqtt/publish.go asks whether the thing may (bridge/may.go), offers the message
//     to the bridge (bridge/tap.go), which may make a room event, a sample or a
//     shadow of it, and finds the subscriptions.
//  3. mqtt/commit.go puts the retained value and one copy for all persistent
//     sessions into a batch that is shared with whoever publishes at the moment.
//  4. When the disk has it, it is acknowledged and given to the sessions.
//  5. The way back: bridge/follow.go reads the log and publishes what a room says
//     to a topic (bridge/command.go).
//
// Readers never look past the tip, and the tip moves only after the disk has
// the log: a commit can be seen by readers of the store before it is safe.
//
// # Where this departs from the first design, and why
//
//   - Relations are keyed by the id of the event related to, not by its number:
//     a child that arrives first needs no second row that is settled later.
//   - Snapshots have no reference counts: a count would be one more row to write for
//     every message. They go with their room, all at once, or when a part of its
//     history was removed: what the rest needs is then looked for (room/sweep.go).
//   - A purge does not know a room's events beforehand: it walks all bodies, with
//     a cursor. An index of events by room would be one more row for every message.
//   - A parked /sync holds no goroutine: its handler returns and the connection
//     waits by itself (httpd/wire, Waiting), at a third of the memory.
//   - Transactions are kept by day and looked for through a filter in memory, so
//     that their end is one deletion a day and a new one costs no read.
//   - The keys of servers are a record of their own (keyring), not a part of
//     federation: package engine checks our own events with them too. The server
//     through which a room is joined is not believed alone about the keys of the
//     others: it could make them up, and its room with them. Two that are in the
//     room and agree are, about the distant past of servers that are gone, unless
//     the owner says otherwise (key_servers).
//   - The MQTT broker is our own, not mochi-mqtt: a message is acknowledged when it
//     is on disk for every persistent session that is to have it, which a broker
//     that acknowledges before it fans out cannot be taught, and an idle client
//     costs a quarter of the memory.
//   - The hub is its own OAuth 2.0 server, where others put a second program beside
//     theirs: a box has one. The rules are in oauth, clients and sessions in account;
//     an OAuth session is a device like any other, which knows its client.
//   - fault has a kind for each answer that a Matrix client can tell apart, not
//     eight: the table in httpd/wire stays the only place that spells errcodes.
package engine
