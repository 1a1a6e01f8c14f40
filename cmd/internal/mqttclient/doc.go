// Package mqttclient is the small MQTT 5 client of hearth pub and hearth sub. It
// owns one session with a hub or any other broker: connecting, coming back with
// the same session after the connection broke, and carrying a message to its end.
//
// It refuses to have more than one message of its own under way: each is told of
// before the next is sent, as a script wants it, and what a client of many must
// keep fits into two variables. Who writes a thing in Go uses a library instead.
package mqttclient
