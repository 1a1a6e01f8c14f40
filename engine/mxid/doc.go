// Package mxid holds Matrix identifiers as types of their own, so that a user
// id cannot stand where a room id belongs, and the grammar of each.
package mxid
