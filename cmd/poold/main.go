// Command poold is the part of workerpool-operator that runs inside an application's pod: one static binary whose
// first argument says which part it plays.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// command is one part. It gets the arguments after its name and returns the exit code: 0 success, 1 failure,
// 2 wrong usage.
type command struct {
	synopsis string
	run      func(args []string) int
}

// commands is the table of all parts; each has a file of its name in this folder.
var commands = map[string]command{
	"ctl":     {"trip the canary of this pod by hand, or say what serves", runCtl},
	"install": {"copy poold and the Python side of a worker into a folder", runInstall},
	"pool":    {"supervise the Python workers of one slot", runPool},
	"probe":   {"ask whether a router or a slot has started", runProbe},
	"router":  {"serve the application and split its requests between the slots", runRouter},
}

func main() { os.Exit(dispatch(os.Args[1:], os.Stderr)) }

func dispatch(args []string, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	c, ok := commands[args[0]]
	if !ok {
		_, _ = fmt.Fprintf(stderr, "poold: unknown command %q\n", args[0])
		usage(stderr)
		return 2
	}
	return c.run(args[1:])
}

func usage(w io.Writer) {
	_, _ = fmt.Fprintln(w, "usage: poold COMMAND [flags]     (poold COMMAND -h tells the flags)")
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		_, _ = fmt.Fprintf(w, "  %-9s %s\n", name, commands[name].synopsis)
	}
}
