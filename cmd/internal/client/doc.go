// Package client is the Matrix client behind hearth pub and hearth sub: it logs in, enters one room, sends events
// into it and follows it.
//
// It owns what makes a shell pipeline over a bad link trustworthy: each event keeps its transaction id however often
// it is tried, so that nothing is lost or doubled while the server is away, and a follower reads on from its own
// position and fills the gap that a long absence leaves. It refuses everything else that a Matrix client may do
// (encryption, many rooms, a store of its own): a program that needs more should use a client library.
//
// It talks to any Matrix server and therefore imports nothing of ours; only net/http.
package client
