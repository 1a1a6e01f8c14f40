package federation

import (
	"context"
	"io"
	"time"

	"hearth/engine/mxid"
)

// Peer reaches other servers: it finds out where a name is served, speaks TLS
// with it and carries bytes. It has two forms, the network (httpd/peer) and the
// simulated one, in which many hubs share a process.
type Peer interface {
	// Do asks and reads the whole answer, whatever its status. Errors are of kind
	// Remote, and Forbidden where the address may not be dialled.
	Do(ctx context.Context, r *Request) (*Answer, error)
	// Open asks and leaves the body to the caller, who bounds and closes it; ctx
	// bounds the time, also that of reading. Errors are those of Do.
	Open(ctx context.Context, r *Request) (*Stream, error)
}

// Request is one question to another server.
type Request struct {
	Dest   mxid.Server
	Method string
	// Path is the request target with its query, percent-encoded: what is signed.
	Path string
	Body []byte // a JSON object; nil: none
	// Authorization is the header of that name; empty where the question needs none.
	Authorization string
	Accept        string        // the header of that name; empty: anything
	MaxAnswer     int64         // a longer answer is an error; 0: 1 MiB. Do only
	Time          time.Duration // the exchange may take; 0: 30 s
}

// Answer is what came back.
type Answer struct {
	Status int
	Body   []byte
}

// Stream is an answer whose body is still to be read.
type Stream struct {
	Status int
	Type   string // of the body, as the header has it
	Length int64  // of the body; -1 where it is not told
	Body   io.ReadCloser
}
