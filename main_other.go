//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "pingover: it works with the network of Linux, and so does its demo; this is %s\n", runtime.GOOS)
	os.Exit(69) // EX_UNAVAILABLE of sysexits.h
}
