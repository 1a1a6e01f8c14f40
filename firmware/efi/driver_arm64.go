package main

// driver is the driver itself, in the firmware's convention. Go cannot call it.
//
//lint:ignore U1000 firmware calls it
func driver()

// where is its address. That main asks for it keeps the linker from leaving it out.
func where() uintptr

// call calls a routine by the firmware's convention, with two arguments.
func call(at, first, second uintptr) uintptr
