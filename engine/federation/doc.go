// Package federation is the hub's dealings with other servers: it signs and
// judges requests, takes in what they send, brings them what is theirs, and
// joins rooms that live elsewhere.
//
// It owns what goes between two servers and nothing of what they talk about:
// rooms, devices and keys are rows of other packages. A room names what it lacks
// (room.Gap) and this package fetches it. It refuses to know sockets, names and
// certificates; those are behind Peer. And it refuses to trust: each answer is
// bounded before it is parsed, each event is checked as if its sender had made
// it to do harm, and a server that does not answer costs rows on the disk, never
// a goroutine that waits.
//
// Spec: server-server.
package federation
