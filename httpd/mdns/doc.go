// Package mdns makes the hub found on its local network: it answers for NAME.local
// and announces the hub's services, by multicast DNS and DNS service discovery
// (RFC 6762 and RFC 6763). It owns the sockets at port 5353.
//
// It refuses to be a resolver, and to speak with anybody who is not on the same
// link. The libraries that were looked at answer for any name that they are given,
// without asking first whether somebody else has it (hashicorp/mdns), or bring a
// whole DNS library along (both); this is a few hundred lines over a parser that is
// linked anyway.
//
// What a flood costs is bounded: packets and answers a second, questions in a
// packet, and each record goes out once a second at most.
package mdns
