// Package sim is test only. It runs whole engines on a memory disk that can
// lose its power: after every sync of a script of operations it takes the disk
// as a power cut at that moment would leave it, opens an engine on it, and
// holds it to what had been acknowledged, and its tables to each other.
//
// Scripts are drawn from a seed that a failure prints. It refuses to know how
// anything is stored: what it asks it asks through package engine, and what only
// the tables can tell, through engine.Verify.
//
// HEARTH_SIM is how many times longer than usual the scripts run; HEARTH_SEED
// draws one again.
package sim
