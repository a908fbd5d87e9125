package main

import (
	"fmt"
	"os"
	"time"
)

// heartbeat is how often a long step says that it is still at it.
const heartbeat = 15 * time.Second

// step runs fn, says what it does before, how long it took after, and every now and then that it still runs.
func step(what string, fn func() error) error {
	fmt.Fprintf(os.Stderr, "==> %s\n", what)
	start := time.Now()
	tell := func(text string) {
		fmt.Fprintf(os.Stderr, "    "+text+"\n", time.Since(start).Round(time.Second))
	}
	done := make(chan error, 1)
	go func() { done <- fn() }()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err == nil {
				tell("took %s")
			}
			return err
		case <-tick.C:
			tell("%s so far")
		}
	}
}
