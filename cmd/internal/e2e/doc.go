// Package e2e drives a real hub process from outside, with a Matrix client library that is not ours and with the
// hearth program's own pub and sub, as a newcomer would.
//
// It owns the promises that only a whole process can keep: that independent clients understand each other through
// the hub, and that everything acknowledged is still there after kill -9. It refuses to look inside: no package of
// the hub is imported. It is a module of its own, so that the client library is no dependency of the product.
package e2e
