// Package e2e drives a real hub process from outside, with Matrix client libraries that are not ours (one in Go, and
// in js/ the one that web clients are built on, for encryption) and with the hearth program's own pub and sub, as a
// newcomer would.
//
// It owns the promises that only a whole process can keep: that independent clients understand each other through
// the hub, and that everything acknowledged is still there after kill -9. It refuses to look inside: no package of
// the hub is imported. It is a module of its own, so that the client libraries are no dependency of the product.
package e2e
