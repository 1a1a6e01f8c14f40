// Package mxid holds Matrix identifiers as types of their own, so that a user
// id cannot stand where a room id belongs, and the grammar of each.
//
// It refuses what no server may have given out, and no more: rooms are full of
// names by older grammars, and a server that refuses them leaves those rooms. Only
// names given anew are held to the narrow grammar (CheckLocalpart).
package mxid
