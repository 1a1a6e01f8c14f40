// Package filter reads the filters of the client-server API and says what they
// let pass.
//
// It owns the shape of a filter and its matching, and keeps nothing: package
// account stores the JSON a client uploaded, and the readers (sync, messages,
// context, search) parse it for each request. A parked request holds its filter
// in memory, so a filter costs only what it says: a part that is absent is a nil
// pointer, which lets everything pass, and the default filter is the zero one.
//
// What needs the store, such as related_by_senders, is told here and looked up
// by the reader.
package filter
