package federation

import (
	"context"

	"hearth/engine/mxid"
)

// receiveEDU takes in one ephemeral message of a transaction. content is a
// checked object. What is wrong with it is nobody's business: it is dropped.
// Spec: server-server, EDUs.
func (f *Federation) receiveEDU(ctx context.Context, origin mxid.Server, typ string, content []byte) {
}
