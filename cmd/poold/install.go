package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/dspex/workerpool-operator/internal/install"
	"github.com/dspex/workerpool-operator/python"
)

// runInstall is `poold install`: it brings this binary and the Python side of a worker into a pod's volume.
func runInstall(args []string) int {
	flags := flag.NewFlagSet("poold install", flag.ContinueOnError)
	to := flags.String("to", "", "existing `folder` that gets poold and python/; required")
	if err := flags.Parse(args); err != nil {
		return usageCode(err)
	}
	if *to == "" || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "poold install: wants --to FOLDER and nothing else")
		return 2
	}
	executable, err := os.Executable()
	if err == nil {
		err = install.Install(*to, executable, python.Files)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "poold install: %v\n", err)
		return 1
	}
	return 0
}
