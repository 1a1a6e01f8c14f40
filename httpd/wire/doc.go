// Package wire is what every HTTP handler of the hub stands on: the route
// table, the request scratch, the bounds on what is read, the one table that
// turns a fault's kind into a status and an errcode, and the writing of answers.
//
// It refuses to know any endpoint: a package of handlers gives it a table of
// routes and is called with a Req. It also refuses to let anything of a request
// grow without a bound: paths, parameters, bodies, the work under way and the
// memory of the rate limiter all have a limit before the first byte is parsed,
// because what comes in here may come from anyone.
//
// A Req and all that it gives out as bytes is valid until its handler returns.
// Strings are copies and may be kept.
package wire
