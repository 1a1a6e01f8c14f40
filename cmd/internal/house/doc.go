// Package house holds the rules that keep the code in shape, as Go tests: who
// may import whom, how long files and functions may be, what a package must say
// about itself, and which packages the program is linked from.
//
// It refuses to judge taste. A rule is here only if it can be decided by
// reading the syntax, and a breach names the file, the line and the rule, so
// that nobody has to learn a tool. A rule that is wrong is changed here, in the
// commit that needs it, with the reason.
package house
