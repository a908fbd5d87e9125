package main

import (
	"fmt"
	"os"
	"time"
)

// heartbeat is how often a long step says that it is still at it, to someone who reads a log.
const heartbeat = 15 * time.Second

// say prints a line of progress. Standard output is for what was asked for (`env`, `kubectl`).
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "==> "+format+"\n", args...)
}

// detail prints a line that belongs to the one above it.
func detail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "    "+format+"\n", args...)
}

// step runs fn, says what it does before, how long it took after, and every now and then that it still runs.
func step(what string, fn func() error) error {
	say("%s", what)
	start := time.Now()
	err := beating(fn)
	if took := time.Since(start); err == nil && took > time.Second {
		detail("took %s", round(took))
	}
	return err
}

// beating runs fn and prints nothing unless it takes long.
func beating(fn func() error) error {
	start := time.Now()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		beat(start, done)
	}()
	defer func() {
		close(done)
		<-stopped
	}()
	return fn()
}

func beat(start time.Time, done <-chan struct{}) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			detail("%s so far", round(time.Since(start)))
		}
	}
}

// round drops what nobody reads: milliseconds below a minute's tenths, fractions above.
func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
