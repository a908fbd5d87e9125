package main

import (
	"flag"
	"os"
)

// runPool is `poold pool`: the supervisor of one slot.
func runPool(args []string) int {
	flags := flag.NewFlagSet("poold pool", flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	return 0
}
