// Package mqtt is the hub's broker for things that speak MQTT 3.1.1 and 5:
// topics, sessions, retained messages, last wills and the way of a message from
// its publisher to the disk and to its subscribers. It knows no sockets (package
// httpd/mqttd has those) and no Matrix (package engine/bridge does): who may do
// what, and what becomes of a message besides, it asks the functions in seam.go.
//
// It refuses to acknowledge what it could lose. The library that was tried first
// (mochi-mqtt) takes 28 to 39 KiB for each client, acknowledges before it fans
// out, and drops what it acknowledged when a subscriber's queue is full; none of
// that can be mended from outside, so the broker is ours.
//
// What comes from inside the hub goes through Broker.Publish(ctx, m), which
// returns when a message of QoS 1 or 2 is on disk; it is offered to the Tap as
// any other and carries Origin, by which the Tap knows its own.
package mqtt
