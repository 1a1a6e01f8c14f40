//go:build parts

package image

// Not linked: these lines keep in go.mod what images are made of beside our own programs.
import (
	_ "github.com/gokrazy/firmware"
	_ "github.com/gokrazy/kernel.arm64"
	_ "github.com/gokrazy/kernel.rpi"
)
