// Package sync answers /sync: what a client has not seen yet, from its token to
// the log's tip.
//
// An answer is made in one go and never waits: Answer appends what is new and
// says whether there was any news. Waiting is the caller's: package clientapi
// registers a Watch (a callback by user, over stream's Park), gives the request
// back to the server as a wire.Waiting, which costs no goroutine, no stack and
// no buffer, and calls Answer again when the callback or the timeout comes.
//
// Cost is what has changed: over a short lag the log's entries are read, over a
// long one each joined room's last position.
package sync
