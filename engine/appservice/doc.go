// Package appservice is the application services of the hub: bridges and bots
// that own a part of its names and are told what happens there.
//
// It owns who they are (their registration files), what is theirs (namespaces of
// users, aliases and rooms) and what each has been told, in transactions that
// carry the same events under the same id however often they are tried. A
// service that was away for a week is a cursor that is a week behind.
//
// It refuses to act for a service: what a service does, it does by the client API
// with its own token, and httpd/clientapi asks here whose token that is. It opens
// no connection; whoever opens it gives it the way out.
//
// Spec: application-service.
package appservice
