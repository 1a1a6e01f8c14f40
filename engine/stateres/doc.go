// Package stateres joins the states of a room's forks: state resolution v1, v2 and
// v2.1, as the room version says.
//
// It is pure. It is given state sets and a way to look up events, and what it
// returns depends on these alone: not on the order of the sets, on map iteration or
// on what was resolved before. It refuses nothing and never fails. Events that
// cannot be found take no part, and what is in a cycle of auth events, which only
// forged events of versions 1 and 2 can make, has no place in an order and is left
// out.
//
// Events come from other servers, so no step recurses along their references and
// none takes more than near-linear time in the number of events it has to see.
// Within the algorithms an event is a small number (graph.go); its text is looked
// up again when needed rather than held, since the auth chains of a large room are
// larger than the memory of a hub.
package stateres
